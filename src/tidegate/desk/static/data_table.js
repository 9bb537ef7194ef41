// A table that can be sorted and filtered where it stands. Everything is written by Vue as text.

export default {
  template: `
    <div class="data-table">
      <input v-if="filterable" v-model="wanted" type="search" class="field table-filter" :placeholder="filterLabel"
             :aria-label="filterLabel" />
      <div class="table-scroll">
        <table>
          <thead><tr>
            <th v-for="column in columns" :key="column.name" :class="['is-' + column.kind, { wide: column.wide }]"
                :aria-sort="sortedBy === column.name ? (descending ? 'descending' : 'ascending') : 'none'">
              <button type="button" @click="sort(column.name)">{{ column.label
                }}<span v-if="sortedBy === column.name" aria-hidden="true">{{ descending ? " ↓" : " ↑" }}</span></button>
            </th>
          </tr></thead>
          <tbody>
            <tr v-for="row in visible" :key="row.key" :class="{ marked: row.marked, link: row.href }"
                @click="row.href && open(row.href, $event)">
              <td v-for="(column, index) in columns" :key="column.name" :class="['is-' + column.kind, { wide: column.wide }]">
                <a v-if="row.href && index === 0" :href="row.href">{{ row.cells[column.name] }}</a>
                <span v-else-if="column.kind === 'tag'" v-show="row.cells[column.name]"
                      :class="'tag ' + row.cells[column.name]">{{ row.cells[column.name] }}</span>
                <template v-else>{{ row.cells[column.name] }}</template>
              </td>
            </tr>
          </tbody>
        </table>
      </div>
      <p v-if="!visible.length" class="empty">{{ rows.length ? "Nothing matches." : empty }}</p>
    </div>`,
  props: { columns: Array, rows: Array, filterable: Boolean, filterLabel: String, empty: String },
  data() {
    return { wanted: "", sortedBy: null, descending: false };
  },
  computed: {
    visible() {
      const wanted = this.wanted.toLowerCase();
      const rows = this.rows.filter((row) =>
        Object.values(row.cells).some((cell) => String(cell).toLowerCase().includes(wanted)));
      if (!this.sortedBy) return rows;
      const by = (row) => row.sort?.[this.sortedBy] ?? row.cells[this.sortedBy];
      const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      rows.sort((a, b) => order(by(a), by(b)));
      return this.descending ? rows.reverse() : rows;
    },
  },
  methods: {
    sort(name) {
      this.descending = this.sortedBy === name && !this.descending;
      this.sortedBy = name;
    },
    open(href, event) {
      if (!event.target.closest("a") && !window.getSelection().toString()) window.location.href = href;
    },
  },
};
