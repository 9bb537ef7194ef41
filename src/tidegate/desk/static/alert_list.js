// The list of alerts. The server sends what is new a few times a second; here it is kept, marked and moved through.
// Everything is written by Vue as text: nothing an event says can become HTML.

const fromField = (event) => event.target.closest?.("input, textarea, select, [contenteditable]");
const dialogOpen = () => document.body.classList.contains("q-body--dialog");

export default {
  template: `
    <section :class="['alerts', { scrolled }]" aria-label="Alerts">
      <div class="alerts-top" ref="top"></div>
      <div class="alert-row alerts-head" aria-hidden="true">
        <span class="c-time">Time (UTC)</span><span class="c-outcome">Outcome</span><span class="c-score">Score</span>
        <span class="c-amount">Amount</span><span class="c-card">Card</span><span class="c-customer">Customer</span>
        <span class="c-channel">Channel</span><span class="c-reason">First reason</span><span class="c-verdict">Verdict</span>
      </div>
      <button v-if="waitingCount" type="button" class="new-chip" @click="showWaiting">
        ↑ {{ waitingCount }} new
      </button>
      <a v-for="row in shown" :key="row.key" :href="row.href" :data-key="row.key" tabindex="-1"
         :class="['alert-row', 'is-' + row.outcome, { selected: row.key === selected, fresh: row.fresh }]"
         @click="selected = row.key">
        <span class="c-time">{{ row.time }}</span>
        <span class="c-outcome"><span :class="'outcome ' + row.outcome">{{ row.outcome }}</span></span>
        <span class="c-score">{{ row.score }}</span>
        <span class="c-amount">{{ row.amount }}</span>
        <span class="c-card">{{ row.card }}</span>
        <span class="c-customer">{{ row.customer }}</span>
        <span class="c-channel">{{ row.channel }}</span>
        <span class="c-reason" :title="row.reason">{{ row.reason }}<em v-if="row.more"> +{{ row.more }}</em></span>
        <span class="c-verdict"><span v-if="row.verdict" :class="'verdict ' + row.verdict">{{ row.verdict }}</span></span>
      </a>
      <p v-if="!shown.length" class="empty">{{ empty }}</p>
    </section>`,
  props: { rows: Array, limit: Number, empty: String },
  data() {
    return { shown: this.rows, waiting: [], waitingCount: 0, selected: null, scrolled: false, paused: false };
  },
  mounted() {
    this.observer = new IntersectionObserver(([entry]) => {
      this.scrolled = !entry.isIntersecting;
      if (!this.scrolled && !this.paused && this.waitingCount) this.showWaiting();
    });
    this.observer.observe(this.$refs.top);
    document.addEventListener("keydown", this.onKey);
  },
  unmounted() {
    this.observer.disconnect();
    document.removeEventListener("keydown", this.onKey);
  },
  methods: {
    // The newest come first, here as everywhere.
    add(rows) {
      if (this.paused || this.scrolled) {
        this.waiting = rows.concat(this.waiting).slice(0, this.limit);
        this.waitingCount += rows.length;
      } else {
        for (const row of rows) row.fresh = true;
        this.shown = rows.concat(this.shown).slice(0, this.limit);
      }
    },
    replace(rows) {
      this.shown = rows;
      this.waiting = [];
      this.waitingCount = 0;
      this.selected = null;
      this.$refs.top.scrollIntoView({ block: "nearest" });
    },
    mark(verdicts) {
      for (const row of this.shown.concat(this.waiting)) {
        if (row.id in verdicts) row.verdict = verdicts[row.id];
      }
    },
    pause(paused) {
      this.paused = paused;
      if (!paused && this.waitingCount) this.showWaiting();
    },
    showWaiting() {
      this.shown = this.waiting.concat(this.shown).slice(0, this.limit);
      this.waiting = [];
      this.waitingCount = 0;
      this.$refs.top.scrollIntoView({ block: "nearest" });
    },
    move(step) {
      if (!this.shown.length) return;
      const at = this.shown.findIndex((row) => row.key === this.selected);
      const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), this.shown.length - 1);
      this.selected = this.shown[next].key;
      this.$nextTick(() => this.$el.querySelector(".selected")?.scrollIntoView({ block: "nearest" }));
    },
    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || fromField(event) || dialogOpen()) return;
      const row = this.shown.find((row) => row.key === this.selected);
      if (event.key === "j" || event.key === "ArrowDown") this.move(1);
      else if (event.key === "k" || event.key === "ArrowUp") this.move(-1);
      else if (event.key === "Enter" && row && event.target === document.body) window.location.href = row.href;
      else if ((event.key === "f" || event.key === "g") && row)
        this.$emit("verdict", { event_id: row.id, is_fraud: event.key === "f" });
      else if (event.key === "p") this.$emit("pause");
      else if (event.key === "/") document.querySelector(".filter-text input")?.focus();
      else return;
      event.preventDefault();
    },
  },
};
