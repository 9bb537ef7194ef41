-- A cart, and no purchase within 30 minutes. DURATION: the match is complete when that time has passed since its first
-- row, if all rows until then are what the pattern says. It is a decision of its own, `abandoned:<id of the first row>`.
SELECT * FROM (
    SELECT customer_id, event_time, action AS step, cart_id, quantity * price_minor AS value_minor, currency
    FROM carts
    WHERE customer_id IS NOT NULL
    UNION ALL
    SELECT customer_id, event_time, 'purchase', NULL, NULL, NULL
    FROM transactions
    WHERE transaction_type = 'purchase' AND authorisation = 'approved'
) MATCH_RECOGNIZE (
    PARTITION BY customer_id
    ORDER BY event_time
    MEASURES
        LAST(cart_id) AS cart,
        COUNT(PUT.*) AS articles,
        SUM(PUT.value_minor) / 100.0 AS value,
        LAST(currency) AS currency
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (PUT (PUT | OTHER)*) DURATION INTERVAL '30' MINUTE
    DEFINE
        PUT AS step = 'add',
        OTHER AS step IN ('remove', 'checkout')
) AS abandoned;
