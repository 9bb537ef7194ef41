-- What is known of a card payment the moment it is made, told by how it stands to what came before.
--
-- A window is named by what it gathers (card, customer, ip, ...) and how far it looks back: 2m, 1h, 7d. It includes the
-- payment itself. A window named `..._usual` is what was usual before: 60 days, but for the last half hour, so that an
-- attack under way does not make itself usual. Inside a window amounts are in minor units (cents), outside in whole ones.
--
-- Payments without a card, an address, a device, ... are gathered too, as SQL gathers NULLs: COUNT(pan) and
-- FILTER (WHERE ip IS NOT NULL) leave them out.
WITH payments AS (
    -- What other streams say of the payment, as of its own time. Of a thing on a list the newest entry counts, until it
    -- is taken off or expires.
    SELECT
        t.*,
        customer.segment AS customer_segment,
        COALESCE(NOT device.removed AND COALESCE(t.event_time < device.expires_at, true), false) AS is_device_denied,
        COALESCE(NOT card.removed AND COALESCE(t.event_time < card.expires_at, true), false) AS is_card_denied,
        COALESCE(NOT allowed.removed AND COALESCE(t.event_time < allowed.expires_at, true), false)
            AS is_customer_allowed
    FROM transactions AS t
    ASOF LEFT JOIN customers AS customer
        ON t.customer_id = customer.customer_id AND t.event_time >= customer.event_time
    ASOF LEFT JOIN lists AS device
        ON device.list = 'deny' AND t.device_id = device.device_id AND t.event_time >= device.event_time
    ASOF LEFT JOIN lists AS card
        ON card.list = 'deny' AND t.pan = card.pan AND t.event_time >= card.event_time
    ASOF LEFT JOIN lists AS allowed
        ON allowed.list = 'allow' AND t.customer_id = allowed.customer_id AND t.event_time >= allowed.event_time
)

SELECT
    event_id,
    event_time,

    -- The payment itself.
    amount_minor / 100.0 AS amount,
    currency,
    transaction_type = 'refund' AS is_refund,
    authorisation = 'declined' AS is_declined,
    COALESCE(ip_country <> card_country, false) AS is_ip_foreign,
    channel = 'pos' AND NOT card_present AS is_keyed_in,
    amount_minor >= 50000 AND amount_minor % 10000 = 0 AS is_round,

    -- Who and what is known.
    customer_segment,
    is_device_denied,
    is_card_denied,
    is_customer_allowed,

    -- The card: how often, how much, where.
    COUNT(pan) OVER card_2m AS card_payments_2m,
    COUNT(pan) OVER card_2h AS card_payments_2h,
    COALESCE(SUM(amount_minor) FILTER (WHERE pan IS NOT NULL AND transaction_type = 'purchase') OVER card_1h, 0) / 100.0
        AS card_spent_1h,
    COALESCE(SUM(amount_minor) FILTER (WHERE pan IS NOT NULL AND transaction_type = 'purchase') OVER card_7d, 0) / 100.0
        AS card_spent_7d,
    COUNT(DISTINCT merchant_id) FILTER (WHERE pan IS NOT NULL) OVER card_1h AS card_merchants_1h,
    COUNT(DISTINCT merchant_id) FILTER (WHERE pan IS NOT NULL AND card_present) OVER card_3m AS card_shops_3m,
    COALESCE(SUM(amount_minor) FILTER (WHERE pan IS NOT NULL AND card_present) OVER card_3m, 0) / 100.0
        AS card_spent_in_shops_3m,
    COUNT(DISTINCT merchant_country) FILTER (WHERE pan IS NOT NULL) OVER card_1d AS card_countries_1d,
    COUNT(DISTINCT device_id) FILTER (WHERE pan IS NOT NULL) OVER card_1d AS card_devices_1d,
    COUNT(DISTINCT customer_id) FILTER (WHERE pan IS NOT NULL) OVER card_7d AS card_customers_7d,
    COUNT(pan) FILTER (WHERE amount_minor BETWEEN 50000 AND 99999) OVER card_7d AS card_just_below_1000_7d,

    -- How far apart the terminals are that read the card within an hour: the diagonal of the box around them. A degree
    -- of latitude is 111.2 km long, one of longitude is shorter by the cosine of the latitude.
    MAX(terminal_latitude) FILTER (WHERE card_present AND pan IS NOT NULL) OVER card_1h AS card_north_1h,
    MIN(terminal_latitude) FILTER (WHERE card_present AND pan IS NOT NULL) OVER card_1h AS card_south_1h,
    MAX(terminal_longitude) FILTER (WHERE card_present AND pan IS NOT NULL) OVER card_1h AS card_east_1h,
    MIN(terminal_longitude) FILTER (WHERE card_present AND pan IS NOT NULL) OVER card_1h AS card_west_1h,
    COALESCE(
        111.2 * sqrt(
            power(card_north_1h - card_south_1h, 2)
            + power(
                LEAST(card_east_1h - card_west_1h, 360 - card_east_1h + card_west_1h)
                * cos(radians((card_north_1h + card_south_1h) / 2)), 2
            )
        ), 0
    ) AS card_travel_km_1h,

    -- The card: is someone trying it out?
    COUNT(pan) FILTER (WHERE amount_minor < 100) OVER card_3m AS card_tiny_amounts_3m,
    COUNT(pan) FILTER (WHERE authorisation = 'declined') OVER card_2m AS card_declines_2m,
    COUNT(pan) FILTER (WHERE authorisation = 'declined') OVER card_1h AS card_declines_1h,

    -- The card: what is usual for it?
    COUNT(pan) OVER card_usual AS card_usual_payments,
    COALESCE(AVG(amount_minor) FILTER (WHERE pan IS NOT NULL) OVER card_usual, 0) / 100.0 AS card_usual_amount,
    COALESCE(STDDEV(amount_minor) FILTER (WHERE pan IS NOT NULL) OVER card_usual, 0) / 100.0 AS card_usual_spread,
    COALESCE(MAX(amount_minor) FILTER (WHERE pan IS NOT NULL) OVER card_usual, 0) / 100.0 AS card_highest_amount,

    -- The customer: is it still the same person?
    COUNT(*) OVER customer_usual AS customer_usual_payments,
    device_id IS NOT NULL
        AND COUNT(device_id) OVER customer_usual >= 3
        AND COUNT(*) OVER customer_device_usual = 0 AS is_device_new,
    ip_country IS NOT NULL
        AND COUNT(ip_country) OVER customer_usual >= 3
        AND COUNT(*) OVER customer_country_usual = 0 AS is_ip_country_new,
    COUNT(*) FILTER (WHERE NOT card_present AND amount_minor > 100000) OVER customer_30m AS customer_high_remote_30m,

    -- The customer: what is bought and what is given back.
    COUNT(*) FILTER (WHERE transaction_type = 'refund') OVER customer_30d AS customer_refunds_30d,
    COALESCE(SUM(amount_minor) FILTER (WHERE transaction_type = 'refund') OVER customer_30d, 0) / 100.0
        AS customer_refunded_30d,
    COALESCE(SUM(amount_minor) FILTER (WHERE transaction_type = 'purchase') OVER customer_30d, 0) / 100.0
        AS customer_spent_30d,
    COUNT(original_event_id) FILTER (WHERE transaction_type = 'refund') OVER purchase_30d AS purchase_refunds_30d,

    -- What many cards share.
    COUNT(DISTINCT pan) FILTER (WHERE ip IS NOT NULL) OVER ip_1h AS ip_cards_1h,
    COUNT(DISTINCT customer_id) FILTER (WHERE ip IS NOT NULL) OVER ip_1d AS ip_customers_1d,
    COUNT(ip) OVER ip_1d AS ip_payments_1d,
    COUNT(ip) FILTER (WHERE authorisation = 'declined') OVER ip_1h AS ip_declines_1h,
    COUNT(DISTINCT pan) FILTER (WHERE ip IS NOT NULL AND pan_bin IS NOT NULL) OVER ip_bin_1d AS ip_cards_of_one_bin_1d,
    COUNT(DISTINCT pan) FILTER (WHERE device_id IS NOT NULL) OVER device_1d AS device_cards_1d,
    COUNT(DISTINCT customer_id) FILTER (WHERE device_id IS NOT NULL) OVER device_1d AS device_customers_1d,
    COUNT(DISTINCT pan) FILTER (WHERE email IS NOT NULL) OVER email_1d AS email_cards_1d,

    -- Where it is paid: the merchant and the terminal.
    COUNT(merchant_id) OVER merchant_10m AS merchant_payments_10m,
    COUNT(merchant_id) FILTER (WHERE amount_minor < 100) OVER merchant_10m AS merchant_tiny_amounts_10m,
    COUNT(merchant_id) FILTER (WHERE authorisation = 'declined') OVER merchant_10m AS merchant_declines_10m,
    COUNT(merchant_id) OVER merchant_7d AS merchant_payments_7d,
    COUNT(merchant_id) FILTER (WHERE is_fraud) OVER merchant_7d AS merchant_frauds_7d,
    COUNT(DISTINCT pan) FILTER (WHERE terminal_id IS NOT NULL AND channel = 'pos' AND NOT card_present) OVER terminal_10m
        AS terminal_keyed_in_cards_10m,
    COUNT(terminal_id) OVER terminal_1h AS terminal_payments_1h,
    COUNT(terminal_id) FILTER (WHERE authorisation = 'declined') OVER terminal_1h AS terminal_declines_1h,
    COUNT(terminal_id) OVER terminal_7d AS terminal_payments_7d,
    COUNT(terminal_id) FILTER (WHERE is_fraud) OVER terminal_7d AS terminal_frauds_7d
FROM payments
WINDOW
    card_2m AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '2' MINUTE PRECEDING AND CURRENT ROW
    ),
    card_3m AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW
    ),
    card_1h AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW
    ),
    card_2h AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW
    ),
    card_1d AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW
    ),
    card_7d AS (
        PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW
    ),
    card_usual AS (
        PARTITION BY pan ORDER BY event_time
        RANGE BETWEEN INTERVAL '60' DAY PRECEDING AND INTERVAL '30' MINUTE PRECEDING
    ),

    customer_30m AS (
        PARTITION BY customer_id ORDER BY event_time RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW
    ),
    customer_30d AS (
        PARTITION BY customer_id ORDER BY event_time RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW
    ),
    customer_usual AS (
        PARTITION BY customer_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '60' DAY PRECEDING AND INTERVAL '30' MINUTE PRECEDING
    ),
    customer_device_usual AS (
        PARTITION BY customer_id, device_id ORDER BY event_time
        RANGE BETWEEN INTERVAL '60' DAY PRECEDING AND INTERVAL '30' MINUTE PRECEDING
    ),
    customer_country_usual AS (
        PARTITION BY customer_id, ip_country ORDER BY event_time
        RANGE BETWEEN INTERVAL '60' DAY PRECEDING AND INTERVAL '30' MINUTE PRECEDING
    ),
    purchase_30d AS (
        PARTITION BY original_event_id ORDER BY event_time RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW
    ),

    ip_1h AS (PARTITION BY ip ORDER BY event_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
    ip_1d AS (PARTITION BY ip ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW),
    ip_bin_1d AS (
        PARTITION BY ip, pan_bin ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW
    ),
    device_1d AS (
        PARTITION BY device_id ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW
    ),
    email_1d AS (PARTITION BY email ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW),

    merchant_10m AS (
        PARTITION BY merchant_id ORDER BY event_time RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW
    ),
    merchant_7d AS (
        PARTITION BY merchant_id ORDER BY event_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW
    ),
    terminal_10m AS (
        PARTITION BY terminal_id ORDER BY event_time RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW
    ),
    terminal_1h AS (
        PARTITION BY terminal_id ORDER BY event_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW
    ),
    terminal_7d AS (
        PARTITION BY terminal_id ORDER BY event_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW
    )
