-- The 15 features of "Reproducible Machine Learning for Credit Card Fraud Detection" (Fraud Detection Handbook).
--
-- A day of the book is open at its old end, (t - 86,400 s, t], and its data has a resolution of a second: so a frame
-- begins 86,399 seconds before. A terminal is judged by what is known of it: labels take seven days to arrive, so its
-- frames end seven days before the transaction.
SELECT
    event_id,
    event_time,

    amount_minor / 100.0 AS tx_amount,
    CASE WHEN extract(isodow FROM event_time) >= 6 THEN 1 ELSE 0 END AS tx_during_weekend,
    CASE WHEN extract(hour FROM event_time) <= 6 THEN 1 ELSE 0 END AS tx_during_night,

    -- How much the customer buys.
    COUNT(*) OVER customer_1d AS customer_id_nb_tx_1day_window,
    AVG(amount_minor) OVER customer_1d / 100.0 AS customer_id_avg_amount_1day_window,
    COUNT(*) OVER customer_7d AS customer_id_nb_tx_7day_window,
    AVG(amount_minor) OVER customer_7d / 100.0 AS customer_id_avg_amount_7day_window,
    COUNT(*) OVER customer_30d AS customer_id_nb_tx_30day_window,
    AVG(amount_minor) OVER customer_30d / 100.0 AS customer_id_avg_amount_30day_window,

    -- How much fraud the terminal sees.
    COUNT(*) OVER terminal_1d AS terminal_id_nb_tx_1day_window,
    COALESCE(COUNT(*) FILTER (WHERE is_fraud) OVER terminal_1d / NULLIF(COUNT(*) OVER terminal_1d, 0), 0.0)
        AS terminal_id_risk_1day_window,
    COUNT(*) OVER terminal_7d AS terminal_id_nb_tx_7day_window,
    COALESCE(COUNT(*) FILTER (WHERE is_fraud) OVER terminal_7d / NULLIF(COUNT(*) OVER terminal_7d, 0), 0.0)
        AS terminal_id_risk_7day_window,
    COUNT(*) OVER terminal_30d AS terminal_id_nb_tx_30day_window,
    COALESCE(COUNT(*) FILTER (WHERE is_fraud) OVER terminal_30d / NULLIF(COUNT(*) OVER terminal_30d, 0), 0.0)
        AS terminal_id_risk_30day_window
FROM transactions
WINDOW
    customer_1d AS (
        PARTITION BY customer_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '86399' SECOND PRECEDING AND CURRENT ROW
    ),
    customer_7d AS (
        PARTITION BY customer_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '604799' SECOND PRECEDING AND CURRENT ROW
    ),
    customer_30d AS (
        PARTITION BY customer_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '2591999' SECOND PRECEDING AND CURRENT ROW
    ),
    terminal_1d AS (
        PARTITION BY terminal_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '691199' SECOND PRECEDING AND INTERVAL '7' DAY PRECEDING
    ),
    terminal_7d AS (
        PARTITION BY terminal_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '1209599' SECOND PRECEDING AND INTERVAL '7' DAY PRECEDING
    ),
    terminal_30d AS (
        PARTITION BY terminal_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '3196799' SECOND PRECEDING AND INTERVAL '7' DAY PRECEDING
    )
