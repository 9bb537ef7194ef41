-- What is known when a customer puts something into a cart, or takes it out.
SELECT
    quantity * price_minor / 100.0 AS value,
    COUNT(*) OVER cart_1d AS cart_steps_1d,
    COUNT(DISTINCT sku) OVER cart_1d AS cart_articles_1d,
    COUNT(*) FILTER (WHERE action = 'remove') OVER cart_1d AS cart_removals_1d
FROM carts
WINDOW
    cart_1d AS (PARTITION BY cart_id ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW)
