-- What happens in which order. A match is TRUE for the event that completes it. Flink SQL runs these texts too (the last
-- one with its group written out).

-- The card is tried out: less than 1.00, and within a minute more than 500.
SELECT * FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    MEASURES
        LAST(TINY.amount_minor) / 100.0 AS tiny_amount,
        DATE_SUB('second', LAST(TINY.event_time), MUCH.event_time) AS seconds
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (TINY OTHER*? MUCH) WITHIN INTERVAL '1' MINUTE
    DEFINE
        TINY AS pan IS NOT NULL AND transaction_type = 'purchase' AND amount_minor < 100,
        MUCH AS transaction_type = 'purchase' AND amount_minor > 50000
) AS card_tested;

-- ... or four times less than 1.00, and within three minutes of the first more than 900.
SELECT * FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    MEASURES
        COUNT(TINY.amount_minor) AS tiny_payments,
        SUM(TINY.amount_minor) / 100.0 AS tiny_amount
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (TINY{4,} MUCH) WITHIN INTERVAL '3' MINUTE
    DEFINE
        TINY AS pan IS NOT NULL AND transaction_type = 'purchase' AND amount_minor < 100,
        MUCH AS transaction_type = 'purchase' AND amount_minor > 90000
) AS card_tested_in_series;

-- Three refusals or more, then it goes through, within two minutes.
SELECT * FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    MEASURES
        COUNT(REFUSED.*) AS refusals
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (REFUSED{3,} THROUGH) WITHIN INTERVAL '2' MINUTE
    DEFINE
        REFUSED AS pan IS NOT NULL AND authorisation = 'declined',
        THROUGH AS authorisation = 'approved'
) AS refused_then_through;

-- More than three payments above 2,000 with one device within half an hour: on a new one, the account is taken over.
SELECT * FROM (
    SELECT customer_id, device_id, event_time, amount_minor FROM transactions
    WHERE device_id IS NOT NULL AND transaction_type = 'purchase'
) MATCH_RECOGNIZE (
    PARTITION BY customer_id, device_id
    ORDER BY event_time
    MEASURES
        COUNT(HIGH.amount_minor) AS payments,
        SUM(HIGH.amount_minor) / 100.0 AS amount
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (HIGH (OTHER*? HIGH){3}) WITHIN INTERVAL '30' MINUTE
    DEFINE
        HIGH AS amount_minor > 200000
) AS high_on_one_device;
