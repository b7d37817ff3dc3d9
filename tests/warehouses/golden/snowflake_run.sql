-- What a mirror sends to Snowflake: written by tests/warehouses/test_snowflake_sql.py, compared by it.
-- Parameters go beside the statements, as ?. COMMIT follows each group of INSERT, UPDATE and DELETE.


-- ===== first run: 75 statements

-- phase: open and check

-- statement 1
SELECT regexp_instr(?, '… 168 characters cdf87751 …') > 0 AS anon_1, regexp_instr(?,
                                                                       '… 168 characters cdf87751 …') > 0 AS anon_2,
       regexp_instr(?, '… 168 characters cdf87751 …') > 0 AS anon_3, regexp_instr(?,
                                                                       '… 579 characters 7de09b04 …') > 0 AS anon_4,
       regexp_instr(?, '… 579 characters 7de09b04 …') > 0 AS anon_5, regexp_instr(?,
                                                                       '… 579 characters 7de09b04 …') > 0 AS anon_6,
       regexp_instr(?, '… 14 characters ba2c64c3 …') > 0 AS anon_7, regexp_instr(?,
                                                                      '^[0-9a-f]{4}$') > 0 AS anon_8, regexp_instr(?,
                                                                                                        '^[0-9a-f]{4}$') > 0 AS anon_9,
       regexp_substr(?, '… 168 characters cdf87751 …', 1, 1, 'e', 3) AS regexp_substr_1;

-- statement 2
SELECT *
FROM
  (select *
   from people) AS model
WHERE false;

-- statement 3
SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked.query_rows, ranked.reason, ranked.left_out,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.row_hash
       END AS row_hash, ranked.carried, CASE WHEN (ranked.reason IS NULL) THEN ranked.sha256_email
                                        END AS sha256_email,
       CAST(NULL AS TEXT) AS sha512_email, CASE WHEN (ranked.reason IS NULL) THEN ranked.google_aid
                                           END AS google_aid,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.first_name
       END AS first_name, CAST(NULL AS TEXT) AS last_name, CAST(NULL AS TEXT) AS title, CAST(NULL AS TEXT) AS company,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.country
       END AS country
FROM
  (SELECT keyed.primary_key AS primary_key, keyed.row_hash AS row_hash, keyed.reason AS reason, keyed.left_out AS left_out,
          keyed.sha256_email AS sha256_email, keyed.google_aid AS google_aid, keyed.first_name AS first_name, keyed.country AS country,
          keyed.carried AS carried, keyed.identity AS identity, keyed.fingerprint AS fingerprint,
          row_number() OVER (PARTITION BY keyed.identity,
                    keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                  END
                             ORDER BY keyed."key 0" NULLS LAST, keyed.fingerprint) AS place,
          count(*) OVER (PARTITION BY keyed.identity,
                     keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                   END) AS query_rows
   FROM
     (SELECT judged."key 0" AS "key 0", judged.primary_key AS primary_key, judged.row_hash AS row_hash, judged.reason AS reason,
             judged.left_out AS left_out, judged.sha256_email AS sha256_email, judged.google_aid AS google_aid, judged.first_name AS first_name,
             judged.country AS country, false AS carried,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce(?,
                                                                                                               ''),
                                                                                                        coalesce(coalesce(? || CAST(length(judged.sha256_email) AS TEXT) || ? || judged.sha256_email || ?,
                                                                                                                   ?),
                                                                                                          ''),
                                                                                                        coalesce(coalesce(? || CAST(length(judged.google_aid) AS TEXT) || ? || judged.google_aid || ?,
                                                                                                                   ?),
                                                                                                          '')),
                                                                                                   256),
                                                                                              ?) AS CHAR(32))
                                                 END AS identity,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce(concat(coalesce(?,
                                                                                                                               ''),
                                                                                                                        coalesce(coalesce(? || CAST(length(judged.sha256_email) AS TEXT) || ? || judged.sha256_email || ?,
                                                                                                                                   ?),
                                                                                                                          ''),
                                                                                                                        coalesce(coalesce(? || CAST(length(judged.google_aid) AS TEXT) || ? || judged.google_aid || ?,
                                                                                                                                   ?),
                                                                                                                          '')),
                                                                                                               ''),
                                                                                                        coalesce(?,
                                                                                                          ''),
                                                                                                        coalesce(concat(coalesce(?,
                                                                                                                          ''),
                                                                                                                   coalesce(coalesce(? || CAST(length(judged.first_name) AS TEXT) || ? || judged.first_name || ?,
                                                                                                                              ?),
                                                                                                                     ''),
                                                                                                                   coalesce(coalesce(? || CAST(length(judged.country) AS TEXT) || ? || judged.country || ?,
                                                                                                                              ?),
                                                                                                                     '')),
                                                                                                          '')),
                                                                                                   256),
                                                                                              ?) AS CHAR(32))
                                                 END AS fingerprint
      FROM
        (SELECT examined."key 0" AS "key 0", examined.primary_key AS primary_key, examined.row_hash AS row_hash,
                CASE WHEN (examined."sha256_email problem" IS NULL) THEN sha2(examined.sha256_email,
                                                                           256)
                END AS sha256_email, CASE WHEN (examined."google_aid problem" IS NULL) THEN examined.google_aid
                                     END AS google_aid,
                CASE
                    WHEN (examined."first_name problem" IS NULL) THEN CASE
                                                                          WHEN (octet_length(examined.first_name) > ?
                                                                                AND length(examined.first_name) > ?) THEN left(examined.first_name,
                                                                                                                            ?) ELSE examined.first_name
                                                                      END
                END AS first_name, CASE WHEN (examined."country problem" IS NULL) THEN upper(examined.country)
                                   END AS country,
                CASE WHEN (examined."sha256_email problem" = ?) THEN ? WHEN (examined."sha256_email problem" = ?) THEN ?
                    WHEN ((examined.sha256_email IS NULL
                           OR examined."sha256_email problem" IS NOT NULL)
                          AND (examined.google_aid IS NULL
                               OR examined."google_aid problem" IS NOT NULL)) THEN ?
                END AS reason,
                CASE
                    WHEN (examined."sha256_email problem" IS NOT NULL
                          OR examined."google_aid problem" IS NOT NULL
                          OR examined."first_name problem" IS NOT NULL
                          OR examined."country problem" IS NOT NULL) THEN concat(coalesce(CASE
                                                                                              WHEN (examined."sha256_email problem" IS NOT NULL) THEN ? || examined."sha256_email problem" || ?
                                                                                          END,
                                                                                   ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."google_aid problem" IS NOT NULL) THEN ? || examined."google_aid problem" || ?
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."first_name problem" IS NOT NULL) THEN ? || examined."first_name problem" || ?
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."country problem" IS NOT NULL) THEN ? || examined."country problem" || ?
                                                                                     END,
                                                                              ''))
                END AS left_out
         FROM
           (SELECT cleaned."key 0" AS "key 0", cleaned.primary_key AS primary_key, cleaned.row_hash AS row_hash,
                   cleaned.sha256_email AS sha256_email, cleaned.google_aid AS google_aid, cleaned.first_name AS first_name, cleaned.country AS country,
                   CASE
                       WHEN (NOT (cleaned.sha256_email LIKE ?
                                  AND cleaned.sha256_email NOT LIKE ?
                                  AND cleaned.sha256_email NOT LIKE ?
                                  AND cleaned.sha256_email NOT LIKE ?
                                  AND cleaned.sha256_email NOT LIKE ?)
                             OR octet_length(cleaned.sha256_email) > ?) THEN CASE
                                                                                 WHEN ((length(cleaned.sha256_email) = ?
                                                                                        OR length(cleaned.sha256_email) = ?)
                                                                                       AND regexp_instr(cleaned.sha256_email,
                                                                                             '^[0-9a-f]+$') > 0) THEN ?
                                                                                 WHEN (length(cleaned.sha256_email) > ?) THEN ?
                                                                                 WHEN (NOT (cleaned.sha256_email LIKE ?
                                                                                            AND cleaned.sha256_email NOT LIKE ?
                                                                                            AND cleaned.sha256_email NOT LIKE ?
                                                                                            AND cleaned.sha256_email NOT LIKE ?
                                                                                            AND cleaned.sha256_email NOT LIKE ?)) THEN ?
                                                                             END
                   END AS "sha256_email problem",
                   CASE
                       WHEN (NOT (regexp_instr(cleaned.google_aid, '^[0-9a-f-]+$') > 0
                                  AND length(replace(cleaned.google_aid, ?, ?)) = ?
                                  AND (length(cleaned.google_aid) = ?
                                       OR cleaned.google_aid LIKE ?))) THEN ? WHEN (regexp_instr(cleaned.google_aid,
                                                                                      '^[0-]+$') > 0) THEN ?
                   END AS "google_aid problem",
                   CASE
                       WHEN (cleaned."suspicious row"
                             AND regexp_instr(cleaned.first_name, '… 98 characters 9ede5e27 …') > 0) THEN ?
                   END AS "first_name problem", CASE
                                                    WHEN (regexp_instr(cleaned.country,
                                                            '^[A-Za-z]{2}$') <= 0) THEN ?
                                                END AS "country problem"
            FROM
              (SELECT "rows"."key 0" AS "key 0", "rows".primary_key AS primary_key, "rows".row_hash AS row_hash,
                      nullif(CASE
                                 WHEN (regexp_instr(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                              ''), chr(0), ''), '^[!-~]+$') > 0) THEN lower(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                      ''),
                                                                                                              chr(0), ''))
                                 ELSE CASE
                                          WHEN (octet_length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                      ''),
                                                                              chr(0), ''),
                                                               '… 44 characters d3f9508b …', '')) = length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                    ''),
                                                                                                                            chr(0),
                                                                                                                            ''),
                                                                                                             '… 44 characters d3f9508b …', ''))) THEN lower(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                                                                     ''),
                                                                                                                                                                             chr(0),
                                                                                                                                                                             ''),
                                                                                                                                                              '… 44 characters d3f9508b …',
                                                                                                                                                              ''))
                                          ELSE translate(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                  ''),
                                                                          chr(0), ''),
                                                           '… 44 characters d3f9508b …', ''), ?, ?)
                                      END
                             END, ?) AS sha256_email,
                      nullif(lower(regexp_replace(replace(collate(CAST("rows"."raw google_aid" AS TEXT),
                                                            ''), chr(0), ''),
                                     '… 91 characters 7b168211 …', '')), ?) AS google_aid,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), ?) AS first_name,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw country" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), ?) AS country, (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT),
                                                                                                                                                                                               ''),
                                                                                                                                                                                       chr(0),
                                                                                                                                                                                       ''),
                                                                                                                                                                              '')) LIKE '%' || ? || '%')
               OR (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '')) LIKE '%' || ? || '%' ESCAPE '/') AS "suspicious row"
               FROM
                 (SELECT "ID" AS "key 0",
                         CASE
                             WHEN ((replace(collate(CAST("ID" AS TEXT), ''), chr(0), '') LIKE '%' || ? || '%')
                                   OR length(replace(collate(CAST("ID" AS TEXT), ''), chr(0), '')) > ?) THEN ? || sha2(replace(collate(CAST("ID" AS TEXT),
                                                                                                                                 ''),
                                                                                                                         chr(0), ''),
                                                                                                                    256) ELSE replace(collate(CAST("ID" AS TEXT),
                                                                                                                                        ''),
                                                                                                                                chr(0),
                                                                                                                                '')
                         END AS primary_key, "EMAIL" AS "raw sha256_email", "DEVICE" AS "raw google_aid", "FIRST_NAME" AS "raw first_name",
                         "COUNTRY" AS "raw country", CAST(NULL AS BIGINT) AS row_hash
                  FROM
                    (select *
                     from people) AS model) AS "rows") AS cleaned) AS examined) AS judged) AS keyed) AS ranked
WHERE ranked.place = ?
LIMIT ?;

-- phase: lease

-- statement 4
DESCRIBE SCHEMA warehouse_sync;

-- as statement 4: DESCRIBE SCHEMA warehouse_sync

-- statement 5
CREATE SCHEMA IF NOT EXISTS warehouse_sync;

-- statement 6
CREATE TRANSIENT TABLE warehouse_sync.migrating AS
SELECT SYSDATE() AS since;

-- as statement 4: DESCRIBE SCHEMA warehouse_sync

-- statement 7
DESC TABLE /* sqlalchemy:_has_object */ "WAREHOUSE_SYNC"."SCHEMA_VERSION";

-- as statement 7: DESC TABLE /* sqlalchemy:_has_object */ "WAREHOUSE_SYNC"."SCHEMA_VERSI

-- statement 8
CREATE TABLE warehouse_sync.schema_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT schema_version_pkc PRIMARY KEY (version_num));

-- statement 9
CREATE TABLE IF NOT EXISTS warehouse_sync.installation (id VARCHAR(36) NOT NULL, last_run BIGINT NOT NULL,
                                                                                                 created_at datetime NOT NULL,
                                                                                                                     PRIMARY KEY (id));

-- statement 10
CREATE TABLE IF NOT EXISTS warehouse_sync.syncs (sync VARCHAR(200) NOT NULL, destination VARCHAR(200) NOT NULL,
                                                                                                      audience_key VARCHAR(200) NOT NULL,
                                                                                                                                audience_type VARCHAR(20),
                                                                                                                                              audience_id VARCHAR(100),
                                                                                                                                                          promoted_run BIGINT, lease_holder VARCHAR(100),
                                                                                                                                                                                            lease_token BIGINT NOT NULL,
                                                                                                                                                                                                               lease_expires_at datetime,
                                                                                                                                                                                                               created_at datetime NOT NULL,
                                                                                                                                                                                                                                   PRIMARY KEY (sync,
                                                                                                                                                                                                                                                destination,
                                                                                                                                                                                                                                                audience_key));

-- statement 11
CREATE TABLE IF NOT EXISTS warehouse_sync.runs (run_id BIGINT NOT NULL, sync VARCHAR(200) NOT NULL, destination VARCHAR(200) NOT NULL,
                                                                                                                             audience_key VARCHAR(200) NOT NULL,
                                                                                                                                                       kind VARCHAR(10) NOT NULL,
                                                                                                                                                                        triggered_by VARCHAR(20) NOT NULL,
                                                                                                                                                                                                 status VARCHAR(20) NOT NULL,
                                                                                                                                                                                                                    phase VARCHAR(20) NOT NULL,
                                                                                                                                                                                                                                      reason TEXT, lease_token BIGINT NOT NULL,
                                                                                                                                                                                                                                                                      config_fingerprint VARCHAR(64) NOT NULL,
                                                                                                                                                                                                                                                                                                     audience_id VARCHAR(100),
                                                                                                                                                                                                                                                                                                                 previous_run BIGINT, snapshot_table VARCHAR(100),
                                                                                                                                                                                                                                                                                                                                                     changes_table VARCHAR(100),
                                                                                                                                                                                                                                                                                                                                                                   query_rows BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                      members BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                      rejected_rows BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                            planned_add BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                planned_remove BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       delivered_add BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             delivered_remove BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      rejected_operations BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  deferred BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   dead BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                last_seq BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 watermark BIGINT NOT NULL DEFAULT 0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   started_at datetime NOT NULL,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       promoted_at datetime,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       finished_at datetime,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       PRIMARY KEY (run_id));

-- statement 12
CREATE TABLE IF NOT EXISTS warehouse_sync.sync_log (logged_at datetime NOT NULL, run_id BIGINT NOT NULL, sync VARCHAR(200) NOT NULL,
                                                                                                                           destination VARCHAR(200) NOT NULL,
                                                                                                                                                    audience_key VARCHAR(200) NOT NULL,
                                                                                                                                                                              seq BIGINT, operation VARCHAR(10),
                                                                                                                                                                                                    outcome VARCHAR(10) NOT NULL,
                                                                                                                                                                                                                        reason VARCHAR(100),
                                                                                                                                                                                                                               message TEXT, primary_key TEXT, identity CHAR(32),
                                                                                                                                                                                                                                                                        attempt INTEGER);

-- statement 13
CREATE TABLE IF NOT EXISTS warehouse_sync.retry_queue (run_id BIGINT NOT NULL, seq BIGINT NOT NULL, sync VARCHAR(200) NOT NULL,
                                                                                                                      destination VARCHAR(200) NOT NULL,
                                                                                                                                               audience_key VARCHAR(200) NOT NULL,
                                                                                                                                                                         state VARCHAR(10) NOT NULL,
                                                                                                                                                                                           operation VARCHAR(10) NOT NULL,
                                                                                                                                                                                                                 identity CHAR(32) NOT NULL,
                                                                                                                                                                                                                                   primary_key TEXT, attempt INTEGER NOT NULL,
                                                                                                                                                                                                                                                                     deferred_since datetime NOT NULL,
                                                                                                                                                                                                                                                                                             next_attempt_at datetime,
                                                                                                                                                                                                                                                                                             reason VARCHAR(100),
                                                                                                                                                                                                                                                                                                    message TEXT, PRIMARY KEY (run_id,
                                                                                                                                                                                                                                                                                                                               seq));

-- statement 14
INSERT INTO warehouse_sync.schema_version (version_num)
VALUES ('0001');

-- statement 15
ALTER TABLE warehouse_sync.syncs ADD COLUMN IF NOT EXISTS generation INTEGER;

-- statement 16
UPDATE warehouse_sync.syncs
SET generation=?
WHERE warehouse_sync.syncs.generation IS NULL;

-- statement 17
ALTER TABLE warehouse_sync.syncs
ALTER COLUMN generation
SET NOT NULL;

-- statement 18
UPDATE warehouse_sync.schema_version
SET version_num='0002'
WHERE warehouse_sync.schema_version.version_num = '0001';

-- statement 19
ALTER TABLE warehouse_sync.syncs ADD COLUMN IF NOT EXISTS last_tick datetime;

-- statement 20
ALTER TABLE warehouse_sync.syncs ADD COLUMN IF NOT EXISTS alerted TEXT;

-- statement 21
ALTER TABLE warehouse_sync.runs ADD COLUMN IF NOT EXISTS tick datetime;

-- statement 22
UPDATE warehouse_sync.schema_version
SET version_num='0003'
WHERE warehouse_sync.schema_version.version_num = '0002';

-- statement 23
ALTER TABLE warehouse_sync.runs ADD COLUMN IF NOT EXISTS recipe VARCHAR(64);

-- statement 24
UPDATE warehouse_sync.schema_version
SET version_num='0004'
WHERE warehouse_sync.schema_version.version_num = '0003';

-- statement 25
UPDATE warehouse_sync.schema_version
SET version_num='0005'
WHERE warehouse_sync.schema_version.version_num = '0004';

-- statement 26
UPDATE warehouse_sync.schema_version
SET version_num='0006'
WHERE warehouse_sync.schema_version.version_num = '0005';

-- statement 27
SELECT count(*) AS count_1
FROM warehouse_sync.installation;

-- statement 28
INSERT INTO warehouse_sync.installation (id, last_run, created_at)
VALUES (?, ?, SYSDATE());

-- statement 29
DROP TABLE IF EXISTS warehouse_sync.migrating;

-- statement 30
SELECT warehouse_sync.syncs.sync
FROM warehouse_sync.syncs
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?;

-- statement 31
UPDATE warehouse_sync.installation
SET id=warehouse_sync.installation.id;

-- statement 32
INSERT INTO warehouse_sync.syncs (sync,
                              destination, audience_key, lease_token, created_at, generation)
SELECT ? AS sync, ? AS destination, ? AS audience_key, ? AS anon_1, SYSDATE() AS sysdate_1, ? AS anon_2
WHERE NOT (EXISTS
             (SELECT warehouse_sync.syncs.sync
              FROM warehouse_sync.syncs
              WHERE warehouse_sync.syncs.sync = ?
                AND warehouse_sync.syncs.destination = ?
                AND warehouse_sync.syncs.audience_key = ?));

-- statement 33
UPDATE warehouse_sync.syncs
SET lease_holder=?, lease_token=(warehouse_sync.syncs.lease_token + ?), lease_expires_at=dateadd(millisecond,
                                                                                           ?, SYSDATE())
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?
  AND (warehouse_sync.syncs.lease_holder IS NULL
       OR warehouse_sync.syncs.lease_expires_at IS NULL
       OR warehouse_sync.syncs.lease_expires_at < SYSDATE());

-- statement 34
SELECT warehouse_sync.syncs.lease_holder, warehouse_sync.syncs.lease_token
FROM warehouse_sync.syncs
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?;

-- statement 35
SELECT warehouse_sync.syncs.audience_type, warehouse_sync.syncs.audience_id, warehouse_sync.syncs.promoted_run, warehouse_sync.syncs.generation
FROM warehouse_sync.syncs
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?;

-- statement 36
SELECT max(warehouse_sync.syncs.generation) AS max_1
FROM warehouse_sync.syncs
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.audience_key = ?;

-- statement 37
SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse_sync.runs.destination, warehouse_sync.runs.audience_key,
       warehouse_sync.runs.kind, warehouse_sync.runs.triggered_by, warehouse_sync.runs.status, warehouse_sync.runs.phase,
       warehouse_sync.runs.reason, warehouse_sync.runs.lease_token, warehouse_sync.runs.config_fingerprint, warehouse_sync.runs.audience_id,
       warehouse_sync.runs.previous_run, warehouse_sync.runs.snapshot_table, warehouse_sync.runs.changes_table, warehouse_sync.runs.query_rows,
       warehouse_sync.runs.members, warehouse_sync.runs.rejected_rows, warehouse_sync.runs.planned_add, warehouse_sync.runs.planned_remove,
       warehouse_sync.runs.delivered_add, warehouse_sync.runs.delivered_remove, warehouse_sync.runs.rejected_operations,
       warehouse_sync.runs.deferred, warehouse_sync.runs.dead, warehouse_sync.runs.last_seq, warehouse_sync.runs.watermark,
       warehouse_sync.runs.started_at, warehouse_sync.runs.promoted_at, warehouse_sync.runs.finished_at, warehouse_sync.runs.tick,
       warehouse_sync.runs.recipe
FROM warehouse_sync.runs
WHERE warehouse_sync.runs.run_id IN
    (SELECT max(warehouse_sync.runs.run_id) AS max_1
     FROM warehouse_sync.runs
     WHERE warehouse_sync.runs.sync = ?
       AND warehouse_sync.runs.promoted_at IS NOT NULL
     GROUP BY warehouse_sync.runs.audience_id)
ORDER BY warehouse_sync.runs.run_id DESC;

-- statement 38
SELECT warehouse_sync.installation.id
FROM warehouse_sync.installation;

-- statement 39
UPDATE warehouse_sync.syncs
SET lease_expires_at=dateadd(millisecond, ?, SYSDATE())
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?
  AND warehouse_sync.syncs.lease_token = ?
  AND warehouse_sync.syncs.lease_holder IS NOT NULL;

-- statement 40
SELECT warehouse_sync.installation.last_run
FROM warehouse_sync.installation;

-- statement 41
UPDATE warehouse_sync.installation
SET last_run=?
WHERE warehouse_sync.installation.last_run = ?;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 42
INSERT INTO warehouse_sync.runs (run_id,
                              sync, destination, audience_key, kind, triggered_by, status, phase, lease_token,
                              config_fingerprint, previous_run, snapshot_table, changes_table, started_at, tick)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, SYSDATE(), ?);

-- statement 43
SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse_sync.runs.destination, warehouse_sync.runs.audience_key,
       warehouse_sync.runs.kind, warehouse_sync.runs.triggered_by, warehouse_sync.runs.status, warehouse_sync.runs.phase,
       warehouse_sync.runs.reason, warehouse_sync.runs.lease_token, warehouse_sync.runs.config_fingerprint, warehouse_sync.runs.audience_id,
       warehouse_sync.runs.previous_run, warehouse_sync.runs.snapshot_table, warehouse_sync.runs.changes_table, warehouse_sync.runs.query_rows,
       warehouse_sync.runs.members, warehouse_sync.runs.rejected_rows, warehouse_sync.runs.planned_add, warehouse_sync.runs.planned_remove,
       warehouse_sync.runs.delivered_add, warehouse_sync.runs.delivered_remove, warehouse_sync.runs.rejected_operations,
       warehouse_sync.runs.deferred, warehouse_sync.runs.dead, warehouse_sync.runs.last_seq, warehouse_sync.runs.watermark,
       warehouse_sync.runs.started_at, warehouse_sync.runs.promoted_at, warehouse_sync.runs.finished_at, warehouse_sync.runs.tick,
       warehouse_sync.runs.recipe
FROM warehouse_sync.runs
WHERE warehouse_sync.runs.sync = ?
  AND warehouse_sync.runs.destination = ?
  AND warehouse_sync.runs.audience_key = ?
  AND warehouse_sync.runs.run_id < ?
  AND warehouse_sync.runs.status = ?
ORDER BY warehouse_sync.runs.run_id;

-- phase: snapshot

-- statement 44
SELECT sha2(CASE
                WHEN (octet_length(regexp_replace(vector.address,
                                     '… 44 characters d3f9508b …', '')) = length(regexp_replace(vector.address,
                                                                                   '… 44 characters d3f9508b …',
                                                                                   ''))) THEN lower(regexp_replace(vector.address,
                                                                                                      '… 44 characters d3f9508b …', '')) ELSE translate(regexp_replace(vector.address,
                                                                                                                                                          '… 44 characters d3f9508b …',
                                                                                                                                                          ''),
                                                                                                                                                ?,
                                                                                                                                                ?)
            END, 256) AS sha2_1
FROM (
      VALUES (?), (?), (?), (?)) AS vector (address);

-- statement 45
CREATE TRANSIENT TABLE warehouse_sync.snapshot_people_1 AS
SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked.query_rows, ranked.reason, ranked.left_out,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.row_hash
       END AS row_hash, ranked.carried, CASE WHEN (ranked.reason IS NULL) THEN ranked.sha256_email
                                        END AS sha256_email,
       CAST(NULL AS TEXT) AS sha512_email, CASE WHEN (ranked.reason IS NULL) THEN ranked.google_aid
                                           END AS google_aid,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.first_name
       END AS first_name, CAST(NULL AS TEXT) AS last_name, CAST(NULL AS TEXT) AS title, CAST(NULL AS TEXT) AS company,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.country
       END AS country
FROM
  (SELECT keyed.primary_key AS primary_key, keyed.row_hash AS row_hash, keyed.reason AS reason, keyed.left_out AS left_out,
          keyed.sha256_email AS sha256_email, keyed.google_aid AS google_aid, keyed.first_name AS first_name, keyed.country AS country,
          keyed.carried AS carried, keyed.identity AS identity, keyed.fingerprint AS fingerprint,
          row_number() OVER (PARTITION BY keyed.identity,
                    keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                  END
                             ORDER BY keyed."key 0" NULLS LAST, keyed.fingerprint) AS place,
          count(*) OVER (PARTITION BY keyed.identity,
                     keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                   END) AS query_rows
   FROM
     (SELECT judged."key 0" AS "key 0", judged.primary_key AS primary_key, judged.row_hash AS row_hash, judged.reason AS reason,
             judged.left_out AS left_out, judged.sha256_email AS sha256_email, judged.google_aid AS google_aid, judged.first_name AS first_name,
             judged.country AS country, false AS carried,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce('',
                                                                                                               ''),
                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                   ''),
                                                                                                          ''),
                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                   ''),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS identity,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce(concat(coalesce('',
                                                                                                                               ''),
                                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                                   ''),
                                                                                                                          ''),
                                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                                   ''),
                                                                                                                          '')),
                                                                                                               ''),
                                                                                                        coalesce('|',
                                                                                                          ''),
                                                                                                        coalesce(concat(coalesce('',
                                                                                                                          ''),
                                                                                                                   coalesce(coalesce('first_name=' || CAST(length(judged.first_name) AS TEXT) || ':' || judged.first_name || ';',
                                                                                                                              ''),
                                                                                                                     ''),
                                                                                                                   coalesce(coalesce('country=' || CAST(length(judged.country) AS TEXT) || ':' || judged.country || ';',
                                                                                                                              ''),
                                                                                                                     '')),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS fingerprint
      FROM
        (SELECT examined."key 0" AS "key 0", examined.primary_key AS primary_key, examined.row_hash AS row_hash,
                CASE WHEN (examined."sha256_email problem" IS NULL) THEN sha2(examined.sha256_email,
                                                                           256)
                END AS sha256_email, CASE WHEN (examined."google_aid problem" IS NULL) THEN examined.google_aid
                                     END AS google_aid,
                CASE
                    WHEN (examined."first_name problem" IS NULL) THEN CASE
                                                                          WHEN (octet_length(examined.first_name) > 35
                                                                                AND length(examined.first_name) > 35) THEN left(examined.first_name,
                                                                                                                             35) ELSE examined.first_name
                                                                      END
                END AS first_name, CASE WHEN (examined."country problem" IS NULL) THEN upper(examined.country)
                                   END AS country,
                CASE WHEN (examined."sha256_email problem" = 'already_hashed') THEN 'already_hashed' WHEN (examined."sha256_email problem" = 'not_hashed') THEN 'not_hashed'
                    WHEN ((examined.sha256_email IS NULL
                           OR examined."sha256_email problem" IS NOT NULL)
                          AND (examined.google_aid IS NULL
                               OR examined."google_aid problem" IS NOT NULL)) THEN 'no_identifier'
                END AS reason,
                CASE
                    WHEN (examined."sha256_email problem" IS NOT NULL
                          OR examined."google_aid problem" IS NOT NULL
                          OR examined."first_name problem" IS NOT NULL
                          OR examined."country problem" IS NOT NULL) THEN concat(coalesce(CASE
                                                                                              WHEN (examined."sha256_email problem" IS NOT NULL) THEN 'sha256_email:' || examined."sha256_email problem" || ' '
                                                                                          END,
                                                                                   ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."google_aid problem" IS NOT NULL) THEN 'google_aid:' || examined."google_aid problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."first_name problem" IS NOT NULL) THEN 'first_name:' || examined."first_name problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."country problem" IS NOT NULL) THEN 'country:' || examined."country problem" || ' '
                                                                                     END,
                                                                              ''))
                END AS left_out
         FROM
           (SELECT cleaned."key 0" AS "key 0", cleaned.primary_key AS primary_key, cleaned.row_hash AS row_hash,
                   cleaned.sha256_email AS sha256_email, cleaned.google_aid AS google_aid, cleaned.first_name AS first_name, cleaned.country AS country,
                   CASE
                       WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                  AND cleaned.sha256_email NOT LIKE '%@%@%'
                                  AND cleaned.sha256_email NOT LIKE '%@.%'
                                  AND cleaned.sha256_email NOT LIKE '%@%..%'
                                  AND cleaned.sha256_email NOT LIKE '%.')
                             OR octet_length(cleaned.sha256_email) > 320) THEN CASE
                                                                                   WHEN ((length(cleaned.sha256_email) = 64
                                                                                          OR length(cleaned.sha256_email) = 128)
                                                                                         AND regexp_instr(cleaned.sha256_email,
                                                                                               '^[0-9a-f]+$') > 0) THEN 'already_hashed'
                                                                                   WHEN (length(cleaned.sha256_email) > 320) THEN 'too_long'
                                                                                   WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%@%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@.%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%..%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%.')) THEN 'not_an_address'
                                                                               END
                   END AS "sha256_email problem",
                   CASE
                       WHEN (NOT (regexp_instr(cleaned.google_aid, '^[0-9a-f-]+$') > 0
                                  AND length(replace(cleaned.google_aid, '-', '')) = 32
                                  AND (length(cleaned.google_aid) = 32
                                       OR cleaned.google_aid LIKE '________-____-____-____-____________'))) THEN 'not_a_device_id' WHEN (regexp_instr(cleaned.google_aid,
                                                                                                                                           '^[0-]+$') > 0) THEN 'opted_out'
                   END AS "google_aid problem",
                   CASE
                       WHEN (cleaned."suspicious row"
                             AND regexp_instr(cleaned.first_name, '… 98 characters 9ede5e27 …') > 0) THEN 'holds_an_address'
                   END AS "first_name problem",
                   CASE WHEN (regexp_instr(cleaned.country, '^[A-Za-z]{2}$') <= 0) THEN 'not_a_country_code'
                   END AS "country problem"
            FROM
              (SELECT "rows"."key 0" AS "key 0", "rows".primary_key AS primary_key, "rows".row_hash AS row_hash,
                      nullif(CASE
                                 WHEN (regexp_instr(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                              ''), chr(0), ''), '^[!-~]+$') > 0) THEN lower(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                      ''),
                                                                                                              chr(0), ''))
                                 ELSE CASE
                                          WHEN (octet_length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                      ''),
                                                                              chr(0), ''),
                                                               '… 44 characters d3f9508b …', '')) = length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                    ''),
                                                                                                                            chr(0),
                                                                                                                            ''),
                                                                                                             '… 44 characters d3f9508b …', ''))) THEN lower(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                                                                     ''),
                                                                                                                                                                             chr(0),
                                                                                                                                                                             ''),
                                                                                                                                                              '… 44 characters d3f9508b …',
                                                                                                                                                              ''))
                                          ELSE translate(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                  ''),
                                                                          chr(0), ''),
                                                           '… 44 characters d3f9508b …', ''),
                                                 '… 1433 characters a4624b46 …', '… 1433 characters 841cd6ec …')
                                      END
                             END, '') AS sha256_email,
                      nullif(lower(regexp_replace(replace(collate(CAST("rows"."raw google_aid" AS TEXT),
                                                            ''), chr(0), ''),
                                     '… 91 characters 7b168211 …', '')), '') AS google_aid,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS first_name,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw country" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS country, (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT),
                                                                                                                                                                                                ''),
                                                                                                                                                                                        chr(0),
                                                                                                                                                                                        ''),
                                                                                                                                                                               '')) LIKE '%' || '@' || '%')
               OR (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '')) LIKE '%' || '/%40' || '%' ESCAPE '/') AS "suspicious row"
               FROM
                 (SELECT "ID" AS "key 0",
                         CASE
                             WHEN ((replace(collate(CAST("ID" AS TEXT), ''), chr(0), '') LIKE '%' || '@' || '%')
                                   OR length(replace(collate(CAST("ID" AS TEXT), ''), chr(0), '')) > 200) THEN 'sha256:' || sha2(replace(collate(CAST("ID" AS TEXT),
                                                                                                                                           ''),
                                                                                                                                   chr(0),
                                                                                                                                   ''),
                                                                                                                              256) ELSE replace(collate(CAST("ID" AS TEXT),
                                                                                                                                                  ''),
                                                                                                                                          chr(0),
                                                                                                                                          '')
                         END AS primary_key, "EMAIL" AS "raw sha256_email", "DEVICE" AS "raw google_aid", "FIRST_NAME" AS "raw first_name",
                         "COUNTRY" AS "raw country", CAST(NULL AS BIGINT) AS row_hash
                  FROM
                    (select *
                     from people) AS model) AS "rows") AS cleaned) AS examined) AS judged) AS keyed) AS ranked
WHERE ranked.place = 1;

-- statement 46
SELECT warehouse_sync.snapshot_people_1.reason, warehouse_sync.snapshot_people_1.left_out, count(*) AS lines,
       CAST(coalesce(sum(warehouse_sync.snapshot_people_1.query_rows), ?) AS BIGINT) AS query_rows, CAST(sum(CASE
                                                                                                                 WHEN warehouse_sync.snapshot_people_1.carried THEN ?
                                                                                                                 ELSE ?
                                                                                                             END) AS BIGINT) AS carried
FROM warehouse_sync.snapshot_people_1
GROUP BY warehouse_sync.snapshot_people_1.reason, warehouse_sync.snapshot_people_1.left_out;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 47
UPDATE warehouse_sync.runs
SET phase=?, query_rows=?, members=?, rejected_rows=?, recipe=?
WHERE warehouse_sync.runs.run_id = ?;

-- phase: changes

-- statement 48
CREATE TRANSIENT TABLE warehouse_sync.changes_people_1 AS
SELECT anon_1.seq, 'ADD' AS operation, 'joined' AS cause, false AS held, anon_1.identity, anon_1.fingerprint,
                                                                   anon_1.primary_key, anon_1.sha256_email, anon_1.sha512_email,
                                                                   anon_1.google_aid, anon_1.first_name, anon_1.last_name,
                                                                   anon_1.title, anon_1.company, anon_1.country, 0 AS attempt,
                                                                   CAST(NULL AS datetime) AS deferred_since, false AS dead,
                                                                                                                      CAST(NULL AS datetime) AS next_attempt_at,
                                                                                                                      CAST(NULL AS TEXT) AS last_reason,
                                                                                                                      CAST(NULL AS TEXT) AS last_message
FROM
  (SELECT row_number() OVER (
                             ORDER BY NULL) AS seq, warehouse_sync.snapshot_people_1.identity AS identity,
          warehouse_sync.snapshot_people_1.fingerprint AS fingerprint, warehouse_sync.snapshot_people_1.primary_key AS primary_key,
          warehouse_sync.snapshot_people_1.sha256_email AS sha256_email, warehouse_sync.snapshot_people_1.sha512_email AS sha512_email,
          warehouse_sync.snapshot_people_1.google_aid AS google_aid, warehouse_sync.snapshot_people_1.first_name AS first_name,
          warehouse_sync.snapshot_people_1.last_name AS last_name, warehouse_sync.snapshot_people_1.title AS title, warehouse_sync.snapshot_people_1.company AS company,
          warehouse_sync.snapshot_people_1.country AS country
   FROM warehouse_sync.snapshot_people_1
   WHERE warehouse_sync.snapshot_people_1.reason IS NULL) AS anon_1
ORDER BY seq;

-- statement 49
SELECT coalesce(sum(CASE WHEN warehouse_sync.changes_people_1.held THEN ? ELSE ?
                    END), ?) AS coalesce_1,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_1.held
                              AND warehouse_sync.changes_people_1.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_3,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_1.held
                              AND warehouse_sync.changes_people_1.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_5,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_1.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_7,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_1.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_9,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_1.held
                              AND warehouse_sync.changes_people_1.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_11
FROM warehouse_sync.changes_people_1;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 50
UPDATE warehouse_sync.runs
SET phase=?, planned_add=?, planned_remove=?, last_seq=?
WHERE warehouse_sync.runs.run_id = ?;

-- phase: audience

-- as statement 38: SELECT warehouse_sync.installation.id FROM warehouse_sync.installation

-- phase: promote

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 51
INSERT INTO warehouse_sync.sync_log (logged_at,
                              run_id, sync, destination, audience_key, seq, operation, outcome, reason, message,
                              primary_key, identity, attempt)
SELECT
  (SELECT SYSDATE() AS sysdate_1) AS anon_1, ? AS anon_2, ? AS sync, ? AS destination, ? AS audience_key, CAST(NULL AS BIGINT) AS anon_3,
       CAST(NULL AS VARCHAR) AS anon__1, ? AS anon_4, warehouse_sync.snapshot_people_1.reason,
       CASE WHEN (warehouse_sync.snapshot_people_1.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_1.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_1.reason = ?) THEN ?
       END AS anon_5, warehouse_sync.snapshot_people_1.primary_key, CAST(NULL AS CHAR(32)) AS anon__2,
       CAST(NULL AS INTEGER) AS anon__3
FROM warehouse_sync.snapshot_people_1
WHERE false;

-- statement 52
UPDATE warehouse_sync.syncs
SET audience_type=?, audience_id=?, promoted_run=?, generation=?
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?
  AND warehouse_sync.syncs.lease_token = ?;

-- statement 53
UPDATE warehouse_sync.runs
SET phase=?, audience_id=?, watermark=?, promoted_at=SYSDATE()
WHERE warehouse_sync.runs.run_id = ?;

-- phase: add

-- statement 54
SELECT CAST(warehouse_sync.changes_people_1.seq AS BIGINT) AS seq,
       concat(coalesce('{"action":"ADD"', ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_1.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_1.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_1.google_aid IS NOT NULL) THEN ',"userIds":['
                  END, ''),
         coalesce(substr(concat(coalesce(',' || '{"idType":"SHA256_EMAIL","idValue":"' || warehouse_sync.changes_people_1.sha256_email || '"}', ''),
                           coalesce(',' || '{"idType":"SHA512_EMAIL","idValue":"' || warehouse_sync.changes_people_1.sha512_email || '"}', ''),
                           coalesce(',' || '{"idType":"GOOGLE_AID","idValue":"' || warehouse_sync.changes_people_1.google_aid || '"}', '')), 2), ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_1.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_1.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_1.google_aid IS NOT NULL) THEN ']'
                  END, ''), coalesce(',"firstName":' || to_json(to_variant(warehouse_sync.changes_people_1.first_name)), ''),
         coalesce(',"lastName":' || to_json(to_variant(warehouse_sync.changes_people_1.last_name)), ''), coalesce(',"title":' || to_json(to_variant(warehouse_sync.changes_people_1.title)),
                                                                                                           ''),
         coalesce(',"company":' || to_json(to_variant(warehouse_sync.changes_people_1.company)), ''), coalesce(',"country":"' || warehouse_sync.changes_people_1.country || '"',
                                                                                                        ''),
         coalesce('… 3 characters 23cabf46 …', '')) AS concat_1
FROM warehouse_sync.changes_people_1
WHERE warehouse_sync.changes_people_1.seq > ?
  AND warehouse_sync.changes_people_1.seq <= ?
ORDER BY warehouse_sync.changes_people_1.seq;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 55
INSERT INTO warehouse_sync.sync_log (logged_at,
                              run_id, sync, destination, audience_key, seq, operation, outcome, reason, message,
                              primary_key, identity, attempt)
SELECT
  (SELECT SYSDATE() AS sysdate_1) AS anon_1, ? AS anon_2, ? AS sync, ? AS destination, ? AS audience_key, warehouse_sync.changes_people_1.seq,
       warehouse_sync.changes_people_1.operation, ? AS anon_3, ? AS anon_4, ? AS anon_5, warehouse_sync.changes_people_1.primary_key,
       warehouse_sync.changes_people_1.identity, warehouse_sync.changes_people_1.attempt + ? AS anon_6
FROM warehouse_sync.changes_people_1
WHERE warehouse_sync.changes_people_1.seq > ?
  AND warehouse_sync.changes_people_1.seq <= ?;

-- statement 56
UPDATE warehouse_sync.runs
SET delivered_add=?, delivered_remove=?, rejected_operations=?, watermark=?
WHERE warehouse_sync.runs.run_id = ?;

-- phase: finish

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 57
UPDATE warehouse_sync.runs
SET phase=?
WHERE warehouse_sync.runs.run_id = ?;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 58
DELETE
FROM warehouse_sync.retry_queue
WHERE warehouse_sync.retry_queue.run_id IN
    (SELECT warehouse_sync.runs.run_id
     FROM warehouse_sync.runs
     WHERE warehouse_sync.runs.sync = ?
       AND warehouse_sync.runs.audience_id = ?
       AND warehouse_sync.runs.run_id < ?);

-- statement 59
DELETE
FROM warehouse_sync.sync_log
WHERE warehouse_sync.sync_log.sync = ?
  AND warehouse_sync.sync_log.destination = ?
  AND warehouse_sync.sync_log.audience_key = ?
  AND warehouse_sync.sync_log.logged_at <
    (SELECT dateadd(millisecond, ?, SYSDATE()) AS dateadd_1);

-- statement 60
SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse_sync.runs.destination, warehouse_sync.runs.audience_key,
       warehouse_sync.runs.kind, warehouse_sync.runs.triggered_by, warehouse_sync.runs.status, warehouse_sync.runs.phase,
       warehouse_sync.runs.reason, warehouse_sync.runs.lease_token, warehouse_sync.runs.config_fingerprint, warehouse_sync.runs.audience_id,
       warehouse_sync.runs.previous_run, warehouse_sync.runs.snapshot_table, warehouse_sync.runs.changes_table, warehouse_sync.runs.query_rows,
       warehouse_sync.runs.members, warehouse_sync.runs.rejected_rows, warehouse_sync.runs.planned_add, warehouse_sync.runs.planned_remove,
       warehouse_sync.runs.delivered_add, warehouse_sync.runs.delivered_remove, warehouse_sync.runs.rejected_operations,
       warehouse_sync.runs.deferred, warehouse_sync.runs.dead, warehouse_sync.runs.last_seq, warehouse_sync.runs.watermark,
       warehouse_sync.runs.started_at, warehouse_sync.runs.promoted_at, warehouse_sync.runs.finished_at, warehouse_sync.runs.tick,
       warehouse_sync.runs.recipe
FROM warehouse_sync.runs
WHERE warehouse_sync.runs.sync = ?
  AND warehouse_sync.runs.destination = ?
  AND warehouse_sync.runs.audience_key = ?
  AND (warehouse_sync.runs.snapshot_table IS NOT NULL
       OR warehouse_sync.runs.changes_table IS NOT NULL)
ORDER BY warehouse_sync.runs.run_id DESC;

-- statement 61
SELECT warehouse_sync.retry_queue.state, count(*) AS count_1
FROM warehouse_sync.retry_queue
WHERE warehouse_sync.retry_queue.sync = ?
  AND warehouse_sync.retry_queue.destination = ?
  AND warehouse_sync.retry_queue.audience_key = ?
  AND warehouse_sync.retry_queue.run_id = ?
GROUP BY warehouse_sync.retry_queue.state;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 62
UPDATE warehouse_sync.runs
SET status=?, reason=?, deferred=?, dead=?, finished_at=SYSDATE()
WHERE warehouse_sync.runs.run_id = ?;

-- statement 63
UPDATE warehouse_sync.syncs
SET lease_holder=?, lease_expires_at=?
WHERE warehouse_sync.syncs.sync = ?
  AND warehouse_sync.syncs.destination = ?
  AND warehouse_sync.syncs.audience_key = ?
  AND warehouse_sync.syncs.lease_token = ?;


-- ===== changed run: 51 statements

-- phase: open and check

-- as statement 1: SELECT regexp_instr(?, '… 168 characters cdf87751 …') > 0 AS anon_1, r

-- as statement 2: SELECT * FROM (select * from people) AS model WHERE false

-- as statement 3: SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked

-- phase: lease

-- as statement 4: DESCRIBE SCHEMA warehouse_sync

-- statement 64
DESCRIBE TABLE warehouse_sync.schema_version;

-- statement 65
SELECT warehouse_sync.schema_version.version_num
FROM warehouse_sync.schema_version;

-- as statement 30: SELECT warehouse_sync.syncs.sync FROM warehouse_sync.syncs WHERE wareh

-- as statement 33: UPDATE warehouse_sync.syncs SET lease_holder=?, lease_token=(warehouse

-- as statement 34: SELECT warehouse_sync.syncs.lease_holder, warehouse_sync.syncs.lease_t

-- as statement 35: SELECT warehouse_sync.syncs.audience_type, warehouse_sync.syncs.audien

-- as statement 37: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- as statement 38: SELECT warehouse_sync.installation.id FROM warehouse_sync.installation

-- statement 66
SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse_sync.runs.destination, warehouse_sync.runs.audience_key,
       warehouse_sync.runs.kind, warehouse_sync.runs.triggered_by, warehouse_sync.runs.status, warehouse_sync.runs.phase,
       warehouse_sync.runs.reason, warehouse_sync.runs.lease_token, warehouse_sync.runs.config_fingerprint, warehouse_sync.runs.audience_id,
       warehouse_sync.runs.previous_run, warehouse_sync.runs.snapshot_table, warehouse_sync.runs.changes_table, warehouse_sync.runs.query_rows,
       warehouse_sync.runs.members, warehouse_sync.runs.rejected_rows, warehouse_sync.runs.planned_add, warehouse_sync.runs.planned_remove,
       warehouse_sync.runs.delivered_add, warehouse_sync.runs.delivered_remove, warehouse_sync.runs.rejected_operations,
       warehouse_sync.runs.deferred, warehouse_sync.runs.dead, warehouse_sync.runs.last_seq, warehouse_sync.runs.watermark,
       warehouse_sync.runs.started_at, warehouse_sync.runs.promoted_at, warehouse_sync.runs.finished_at, warehouse_sync.runs.tick,
       warehouse_sync.runs.recipe
FROM warehouse_sync.runs
WHERE warehouse_sync.runs.run_id = ?;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 40: SELECT warehouse_sync.installation.last_run FROM warehouse_sync.instal

-- as statement 41: UPDATE warehouse_sync.installation SET last_run=? WHERE warehouse_sync

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 42: INSERT INTO warehouse_sync.runs (run_id, sync, destination, audience_k

-- statement 67
DESCRIBE TABLE warehouse_sync.snapshot_people_1;

-- statement 68
SELECT count(*) AS count_1
FROM warehouse_sync.snapshot_people_1
WHERE warehouse_sync.snapshot_people_1.reason IS NULL;

-- statement 69
SELECT DISTINCT warehouse_sync.retry_queue.operation
FROM warehouse_sync.retry_queue
WHERE warehouse_sync.retry_queue.run_id = ?;

-- as statement 43: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- phase: snapshot

-- as statement 44: SELECT sha2(CASE WHEN (octet_length(regexp_replace(vector.address, '… 

-- statement 70
CREATE TRANSIENT TABLE warehouse_sync.snapshot_people_2 AS
SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked.query_rows, ranked.reason, ranked.left_out,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.row_hash
       END AS row_hash, ranked.carried, CASE WHEN (ranked.reason IS NULL) THEN ranked.sha256_email
                                        END AS sha256_email,
       CAST(NULL AS TEXT) AS sha512_email, CASE WHEN (ranked.reason IS NULL) THEN ranked.google_aid
                                           END AS google_aid,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.first_name
       END AS first_name, CAST(NULL AS TEXT) AS last_name, CAST(NULL AS TEXT) AS title, CAST(NULL AS TEXT) AS company,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.country
       END AS country
FROM
  (SELECT keyed.primary_key AS primary_key, keyed.row_hash AS row_hash, keyed.reason AS reason, keyed.left_out AS left_out,
          keyed.sha256_email AS sha256_email, keyed.google_aid AS google_aid, keyed.first_name AS first_name, keyed.country AS country,
          keyed.carried AS carried, keyed.identity AS identity, keyed.fingerprint AS fingerprint,
          row_number() OVER (PARTITION BY keyed.identity,
                    keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                  END
                             ORDER BY keyed."key 0" NULLS LAST, keyed.fingerprint) AS place,
          count(*) OVER (PARTITION BY keyed.identity,
                     keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                   END) AS query_rows
   FROM
     (SELECT judged."key 0" AS "key 0", judged.primary_key AS primary_key, judged.row_hash AS row_hash, judged.reason AS reason,
             judged.left_out AS left_out, judged.sha256_email AS sha256_email, judged.google_aid AS google_aid, judged.first_name AS first_name,
             judged.country AS country, false AS carried,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce('',
                                                                                                               ''),
                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                   ''),
                                                                                                          ''),
                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                   ''),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS identity,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce(concat(coalesce('',
                                                                                                                               ''),
                                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                                   ''),
                                                                                                                          ''),
                                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                                   ''),
                                                                                                                          '')),
                                                                                                               ''),
                                                                                                        coalesce('|',
                                                                                                          ''),
                                                                                                        coalesce(concat(coalesce('',
                                                                                                                          ''),
                                                                                                                   coalesce(coalesce('first_name=' || CAST(length(judged.first_name) AS TEXT) || ':' || judged.first_name || ';',
                                                                                                                              ''),
                                                                                                                     ''),
                                                                                                                   coalesce(coalesce('country=' || CAST(length(judged.country) AS TEXT) || ':' || judged.country || ';',
                                                                                                                              ''),
                                                                                                                     '')),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS fingerprint
      FROM
        (SELECT examined."key 0" AS "key 0", examined.primary_key AS primary_key, examined.row_hash AS row_hash,
                CASE WHEN (examined."sha256_email problem" IS NULL) THEN sha2(examined.sha256_email,
                                                                           256)
                END AS sha256_email, CASE WHEN (examined."google_aid problem" IS NULL) THEN examined.google_aid
                                     END AS google_aid,
                CASE
                    WHEN (examined."first_name problem" IS NULL) THEN CASE
                                                                          WHEN (octet_length(examined.first_name) > 35
                                                                                AND length(examined.first_name) > 35) THEN left(examined.first_name,
                                                                                                                             35) ELSE examined.first_name
                                                                      END
                END AS first_name, CASE WHEN (examined."country problem" IS NULL) THEN upper(examined.country)
                                   END AS country,
                CASE WHEN (examined."sha256_email problem" = 'already_hashed') THEN 'already_hashed' WHEN (examined."sha256_email problem" = 'not_hashed') THEN 'not_hashed'
                    WHEN ((examined.sha256_email IS NULL
                           OR examined."sha256_email problem" IS NOT NULL)
                          AND (examined.google_aid IS NULL
                               OR examined."google_aid problem" IS NOT NULL)) THEN 'no_identifier'
                END AS reason,
                CASE
                    WHEN (examined."sha256_email problem" IS NOT NULL
                          OR examined."google_aid problem" IS NOT NULL
                          OR examined."first_name problem" IS NOT NULL
                          OR examined."country problem" IS NOT NULL) THEN concat(coalesce(CASE
                                                                                              WHEN (examined."sha256_email problem" IS NOT NULL) THEN 'sha256_email:' || examined."sha256_email problem" || ' '
                                                                                          END,
                                                                                   ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."google_aid problem" IS NOT NULL) THEN 'google_aid:' || examined."google_aid problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."first_name problem" IS NOT NULL) THEN 'first_name:' || examined."first_name problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."country problem" IS NOT NULL) THEN 'country:' || examined."country problem" || ' '
                                                                                     END,
                                                                              ''))
                END AS left_out
         FROM
           (SELECT cleaned."key 0" AS "key 0", cleaned.primary_key AS primary_key, cleaned.row_hash AS row_hash,
                   cleaned.sha256_email AS sha256_email, cleaned.google_aid AS google_aid, cleaned.first_name AS first_name, cleaned.country AS country,
                   CASE
                       WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                  AND cleaned.sha256_email NOT LIKE '%@%@%'
                                  AND cleaned.sha256_email NOT LIKE '%@.%'
                                  AND cleaned.sha256_email NOT LIKE '%@%..%'
                                  AND cleaned.sha256_email NOT LIKE '%.')
                             OR octet_length(cleaned.sha256_email) > 320) THEN CASE
                                                                                   WHEN ((length(cleaned.sha256_email) = 64
                                                                                          OR length(cleaned.sha256_email) = 128)
                                                                                         AND regexp_instr(cleaned.sha256_email,
                                                                                               '^[0-9a-f]+$') > 0) THEN 'already_hashed'
                                                                                   WHEN (length(cleaned.sha256_email) > 320) THEN 'too_long'
                                                                                   WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%@%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@.%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%..%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%.')) THEN 'not_an_address'
                                                                               END
                   END AS "sha256_email problem",
                   CASE
                       WHEN (NOT (regexp_instr(cleaned.google_aid, '^[0-9a-f-]+$') > 0
                                  AND length(replace(cleaned.google_aid, '-', '')) = 32
                                  AND (length(cleaned.google_aid) = 32
                                       OR cleaned.google_aid LIKE '________-____-____-____-____________'))) THEN 'not_a_device_id' WHEN (regexp_instr(cleaned.google_aid,
                                                                                                                                           '^[0-]+$') > 0) THEN 'opted_out'
                   END AS "google_aid problem",
                   CASE
                       WHEN (cleaned."suspicious row"
                             AND regexp_instr(cleaned.first_name, '… 98 characters 9ede5e27 …') > 0) THEN 'holds_an_address'
                   END AS "first_name problem",
                   CASE WHEN (regexp_instr(cleaned.country, '^[A-Za-z]{2}$') <= 0) THEN 'not_a_country_code'
                   END AS "country problem"
            FROM
              (SELECT "rows"."key 0" AS "key 0", "rows".primary_key AS primary_key, "rows".row_hash AS row_hash,
                      nullif(CASE
                                 WHEN (regexp_instr(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                              ''), chr(0), ''), '^[!-~]+$') > 0) THEN lower(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                      ''),
                                                                                                              chr(0), ''))
                                 ELSE CASE
                                          WHEN (octet_length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                      ''),
                                                                              chr(0), ''),
                                                               '… 44 characters d3f9508b …', '')) = length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                    ''),
                                                                                                                            chr(0),
                                                                                                                            ''),
                                                                                                             '… 44 characters d3f9508b …', ''))) THEN lower(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                                                                     ''),
                                                                                                                                                                             chr(0),
                                                                                                                                                                             ''),
                                                                                                                                                              '… 44 characters d3f9508b …',
                                                                                                                                                              ''))
                                          ELSE translate(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                  ''),
                                                                          chr(0), ''),
                                                           '… 44 characters d3f9508b …', ''),
                                                 '… 1433 characters a4624b46 …', '… 1433 characters 841cd6ec …')
                                      END
                             END, '') AS sha256_email,
                      nullif(lower(regexp_replace(replace(collate(CAST("rows"."raw google_aid" AS TEXT),
                                                            ''), chr(0), ''),
                                     '… 91 characters 7b168211 …', '')), '') AS google_aid,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS first_name,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw country" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS country, (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT),
                                                                                                                                                                                                ''),
                                                                                                                                                                                        chr(0),
                                                                                                                                                                                        ''),
                                                                                                                                                                               '')) LIKE '%' || '@' || '%')
               OR (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '')) LIKE '%' || '/%40' || '%' ESCAPE '/') AS "suspicious row"
               FROM
                 (SELECT "ID" AS "key 0",
                         CASE
                             WHEN ((replace(collate(CAST("ID" AS TEXT), ''), chr(0), '') LIKE '%' || '@' || '%')
                                   OR length(replace(collate(CAST("ID" AS TEXT), ''), chr(0), '')) > 200) THEN 'sha256:' || sha2(replace(collate(CAST("ID" AS TEXT),
                                                                                                                                           ''),
                                                                                                                                   chr(0),
                                                                                                                                   ''),
                                                                                                                              256) ELSE replace(collate(CAST("ID" AS TEXT),
                                                                                                                                                  ''),
                                                                                                                                          chr(0),
                                                                                                                                          '')
                         END AS primary_key, "EMAIL" AS "raw sha256_email", "DEVICE" AS "raw google_aid", "FIRST_NAME" AS "raw first_name",
                         "COUNTRY" AS "raw country", CAST(NULL AS BIGINT) AS row_hash
                  FROM
                    (select *
                     from people) AS model) AS "rows") AS cleaned) AS examined) AS judged) AS keyed) AS ranked
WHERE ranked.place = 1;

-- statement 71
SELECT warehouse_sync.snapshot_people_2.reason, warehouse_sync.snapshot_people_2.left_out, count(*) AS lines,
       CAST(coalesce(sum(warehouse_sync.snapshot_people_2.query_rows), ?) AS BIGINT) AS query_rows, CAST(sum(CASE
                                                                                                                 WHEN warehouse_sync.snapshot_people_2.carried THEN ?
                                                                                                                 ELSE ?
                                                                                                             END) AS BIGINT) AS carried
FROM warehouse_sync.snapshot_people_2
GROUP BY warehouse_sync.snapshot_people_2.reason, warehouse_sync.snapshot_people_2.left_out;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 47: UPDATE warehouse_sync.runs SET phase=?, query_rows=?, members=?, rejec

-- phase: changes

-- statement 72
SELECT EXISTS
  (SELECT warehouse_sync.retry_queue.seq
   FROM warehouse_sync.retry_queue
   WHERE warehouse_sync.retry_queue.run_id = ?) AS anon_1;

-- statement 73
CREATE TRANSIENT TABLE warehouse_sync.changes_people_2 AS WITH removes AS
  (SELECT 'REMOVE' AS operation, 'left' AS cause, false AS held, anon_1.identity AS identity,
                                                           anon_1.fingerprint AS fingerprint, anon_1.primary_key AS primary_key,
                                                           anon_1.sha256_email AS sha256_email, anon_1.sha512_email AS sha512_email,
                                                           anon_1.google_aid AS google_aid, anon_1.first_name AS first_name,
                                                           anon_1.last_name AS last_name, anon_1.title AS title, anon_1.company AS company,
                                                           anon_1.country AS country, 0 AS attempt,
                                                           CAST(NULL AS datetime) AS deferred_since, false AS dead,
                                                                                                              CAST(NULL AS datetime) AS next_attempt_at,
                                                                                                              CAST(NULL AS TEXT) AS last_reason,
                                                                                                              CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_1.identity AS identity, warehouse_sync.snapshot_people_1.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_1.primary_key AS primary_key, warehouse_sync.snapshot_people_1.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_1.sha512_email AS sha512_email, warehouse_sync.snapshot_people_1.google_aid AS google_aid,
             warehouse_sync.snapshot_people_1.first_name AS first_name, warehouse_sync.snapshot_people_1.last_name AS last_name,
             warehouse_sync.snapshot_people_1.title AS title, warehouse_sync.snapshot_people_1.company AS company,
             warehouse_sync.snapshot_people_1.country AS country
      FROM warehouse_sync.snapshot_people_1
      WHERE warehouse_sync.snapshot_people_1.reason IS NULL
        AND warehouse_sync.snapshot_people_1.identity IN
          (SELECT warehouse_sync.snapshot_people_1.identity
           FROM warehouse_sync.snapshot_people_1
           LEFT OUTER JOIN warehouse_sync.snapshot_people_2 ON warehouse_sync.snapshot_people_1.identity = warehouse_sync.snapshot_people_2.identity
           AND NOT warehouse_sync.snapshot_people_2.carried
           WHERE warehouse_sync.snapshot_people_2.identity IS NULL)) AS anon_1),
                                                               adds AS
  (SELECT 'ADD' AS operation, 'joined' AS cause, false AS held, anon_2.identity AS identity,
                                                          anon_2.fingerprint AS fingerprint, anon_2.primary_key AS primary_key,
                                                          anon_2.sha256_email AS sha256_email, anon_2.sha512_email AS sha512_email,
                                                          anon_2.google_aid AS google_aid, anon_2.first_name AS first_name,
                                                          anon_2.last_name AS last_name, anon_2.title AS title, anon_2.company AS company,
                                                          anon_2.country AS country, 0 AS attempt, CAST(NULL AS datetime) AS deferred_since,
                                                          false AS dead, CAST(NULL AS datetime) AS next_attempt_at,
                                                                   CAST(NULL AS TEXT) AS last_reason, CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_2.identity AS identity, warehouse_sync.snapshot_people_2.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_2.primary_key AS primary_key, warehouse_sync.snapshot_people_2.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_2.sha512_email AS sha512_email, warehouse_sync.snapshot_people_2.google_aid AS google_aid,
             warehouse_sync.snapshot_people_2.first_name AS first_name, warehouse_sync.snapshot_people_2.last_name AS last_name,
             warehouse_sync.snapshot_people_2.title AS title, warehouse_sync.snapshot_people_2.company AS company,
             warehouse_sync.snapshot_people_2.country AS country
      FROM warehouse_sync.snapshot_people_2
      WHERE warehouse_sync.snapshot_people_2.reason IS NULL
        AND NOT warehouse_sync.snapshot_people_2.carried
        AND warehouse_sync.snapshot_people_2.fingerprint IN
          (SELECT warehouse_sync.snapshot_people_2.fingerprint
           FROM warehouse_sync.snapshot_people_2
           LEFT OUTER JOIN warehouse_sync.snapshot_people_1 ON warehouse_sync.snapshot_people_2.fingerprint = warehouse_sync.snapshot_people_1.fingerprint
           WHERE warehouse_sync.snapshot_people_1.fingerprint IS NULL
             AND NOT warehouse_sync.snapshot_people_2.carried)) AS anon_2),
                                                               readds AS
  (SELECT 'ADD' AS operation, 'shared' AS cause, false AS held, anon_3.identity AS identity,
                                                          anon_3.fingerprint AS fingerprint, anon_3.primary_key AS primary_key,
                                                          anon_3.sha256_email AS sha256_email, anon_3.sha512_email AS sha512_email,
                                                          anon_3.google_aid AS google_aid, anon_3.first_name AS first_name,
                                                          anon_3.last_name AS last_name, anon_3.title AS title, anon_3.company AS company,
                                                          anon_3.country AS country, 0 AS attempt, CAST(NULL AS datetime) AS deferred_since,
                                                          false AS dead, CAST(NULL AS datetime) AS next_attempt_at,
                                                                   CAST(NULL AS TEXT) AS last_reason, CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_2.identity AS identity, warehouse_sync.snapshot_people_2.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_2.primary_key AS primary_key, warehouse_sync.snapshot_people_2.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_2.sha512_email AS sha512_email, warehouse_sync.snapshot_people_2.google_aid AS google_aid,
             warehouse_sync.snapshot_people_2.first_name AS first_name, warehouse_sync.snapshot_people_2.last_name AS last_name,
             warehouse_sync.snapshot_people_2.title AS title, warehouse_sync.snapshot_people_2.company AS company,
             warehouse_sync.snapshot_people_2.country AS country
      FROM warehouse_sync.snapshot_people_2
      JOIN
        (SELECT warehouse_sync.snapshot_people_2.identity AS identity
         FROM warehouse_sync.snapshot_people_2
         WHERE warehouse_sync.snapshot_people_2.sha256_email IN
             (SELECT removes.sha256_email
              FROM removes)
         UNION SELECT warehouse_sync.snapshot_people_2.identity AS identity
         FROM warehouse_sync.snapshot_people_2
         WHERE warehouse_sync.snapshot_people_2.sha512_email IN
             (SELECT removes.sha512_email
              FROM removes)
         UNION SELECT warehouse_sync.snapshot_people_2.identity AS identity
         FROM warehouse_sync.snapshot_people_2
         WHERE warehouse_sync.snapshot_people_2.google_aid IN
             (SELECT removes.google_aid
              FROM removes)) AS affected ON affected.identity = warehouse_sync.snapshot_people_2.identity
      WHERE NOT (EXISTS
                   (SELECT *
                    FROM adds
                    WHERE adds.identity = warehouse_sync.snapshot_people_2.identity))) AS anon_3)
SELECT operations.seq, operations.operation, operations.cause, operations.held, operations.identity, operations.fingerprint,
       operations.primary_key, operations.sha256_email, operations.sha512_email, operations.google_aid, operations.first_name,
       operations.last_name, operations.title, operations.company, operations.country, operations.attempt, operations.deferred_since,
       operations.dead, operations.next_attempt_at, operations.last_reason, operations.last_message
FROM
  (SELECT CAST(row_number() OVER (
                                  ORDER BY NULL) AS BIGINT) AS seq, removes.operation AS operation, removes.cause AS cause, removes.held AS held,
          removes.identity AS identity, removes.fingerprint AS fingerprint, removes.primary_key AS primary_key,
          removes.sha256_email AS sha256_email, removes.sha512_email AS sha512_email, removes.google_aid AS google_aid,
          removes.first_name AS first_name, removes.last_name AS last_name, removes.title AS title, removes.company AS company,
          removes.country AS country, removes.attempt AS attempt, removes.deferred_since AS deferred_since, removes.dead AS dead,
          removes.next_attempt_at AS next_attempt_at, removes.last_reason AS last_reason, removes.last_message AS last_message
   FROM removes
   UNION ALL SELECT CAST(row_number() OVER (
                                            ORDER BY NULL) +
                           (SELECT count(*) AS count_1
                            FROM removes) AS BIGINT) AS seq, adds.operation AS operation, adds.cause AS cause, adds.held AS held, adds.identity AS identity,
                    adds.fingerprint AS fingerprint, adds.primary_key AS primary_key, adds.sha256_email AS sha256_email,
                    adds.sha512_email AS sha512_email, adds.google_aid AS google_aid, adds.first_name AS first_name, adds.last_name AS last_name,
                    adds.title AS title, adds.company AS company, adds.country AS country, adds.attempt AS attempt,
                    adds.deferred_since AS deferred_since, adds.dead AS dead, adds.next_attempt_at AS next_attempt_at, adds.last_reason AS last_reason,
                    adds.last_message AS last_message
   FROM adds
   UNION ALL SELECT CAST(row_number() OVER (
                                            ORDER BY NULL) +
                           (SELECT count(*) AS count_2
                            FROM removes) +
                           (SELECT count(*) AS count_3
                            FROM adds) AS BIGINT) AS seq, readds.operation AS operation, readds.cause AS cause, readds.held AS held,
                    readds.identity AS identity, readds.fingerprint AS fingerprint, readds.primary_key AS primary_key,
                    readds.sha256_email AS sha256_email, readds.sha512_email AS sha512_email, readds.google_aid AS google_aid,
                    readds.first_name AS first_name, readds.last_name AS last_name, readds.title AS title, readds.company AS company,
                    readds.country AS country, readds.attempt AS attempt, readds.deferred_since AS deferred_since, readds.dead AS dead,
                    readds.next_attempt_at AS next_attempt_at, readds.last_reason AS last_reason, readds.last_message AS last_message
   FROM readds) AS operations
ORDER BY seq;

-- statement 74
SELECT coalesce(sum(CASE WHEN warehouse_sync.changes_people_2.held THEN ? ELSE ?
                    END), ?) AS coalesce_1,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_2.held
                              AND warehouse_sync.changes_people_2.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_3,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_2.held
                              AND warehouse_sync.changes_people_2.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_5,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_2.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_7,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_2.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_9,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_2.held
                              AND warehouse_sync.changes_people_2.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_11
FROM warehouse_sync.changes_people_2;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 50: UPDATE warehouse_sync.runs SET phase=?, planned_add=?, planned_remove=

-- phase: promote

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 75
INSERT INTO warehouse_sync.sync_log (logged_at,
                              run_id, sync, destination, audience_key, seq, operation, outcome, reason, message,
                              primary_key, identity, attempt)
SELECT
  (SELECT SYSDATE() AS sysdate_1) AS anon_1, ? AS anon_2, ? AS sync, ? AS destination, ? AS audience_key, CAST(NULL AS BIGINT) AS anon_3,
       CAST(NULL AS VARCHAR) AS anon__1, ? AS anon_4, warehouse_sync.snapshot_people_2.reason,
       CASE WHEN (warehouse_sync.snapshot_people_2.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_2.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_2.reason = ?) THEN ?
       END AS anon_5, warehouse_sync.snapshot_people_2.primary_key, CAST(NULL AS CHAR(32)) AS anon__2,
       CAST(NULL AS INTEGER) AS anon__3
FROM warehouse_sync.snapshot_people_2
WHERE false;

-- as statement 52: UPDATE warehouse_sync.syncs SET audience_type=?, audience_id=?, promot

-- as statement 53: UPDATE warehouse_sync.runs SET phase=?, audience_id=?, watermark=?, pr

-- phase: remove

-- statement 76
SELECT CAST(warehouse_sync.changes_people_2.seq AS BIGINT) AS seq,
       concat(coalesce('{"action":"REMOVE"', ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_2.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.google_aid IS NOT NULL) THEN ',"userIds":['
                  END, ''),
         coalesce(substr(concat(coalesce(',' || '{"idType":"SHA256_EMAIL","idValue":"' || warehouse_sync.changes_people_2.sha256_email || '"}', ''),
                           coalesce(',' || '{"idType":"SHA512_EMAIL","idValue":"' || warehouse_sync.changes_people_2.sha512_email || '"}', ''),
                           coalesce(',' || '{"idType":"GOOGLE_AID","idValue":"' || warehouse_sync.changes_people_2.google_aid || '"}', '')), 2), ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_2.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.google_aid IS NOT NULL) THEN ']'
                  END, ''), coalesce('… 3 characters 23cabf46 …', '')) AS concat_1
FROM warehouse_sync.changes_people_2
WHERE warehouse_sync.changes_people_2.seq > ?
  AND warehouse_sync.changes_people_2.seq <= ?
ORDER BY warehouse_sync.changes_people_2.seq;

-- phase: add

-- statement 77
SELECT CAST(warehouse_sync.changes_people_2.seq AS BIGINT) AS seq,
       concat(coalesce('{"action":"ADD"', ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_2.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.google_aid IS NOT NULL) THEN ',"userIds":['
                  END, ''),
         coalesce(substr(concat(coalesce(',' || '{"idType":"SHA256_EMAIL","idValue":"' || warehouse_sync.changes_people_2.sha256_email || '"}', ''),
                           coalesce(',' || '{"idType":"SHA512_EMAIL","idValue":"' || warehouse_sync.changes_people_2.sha512_email || '"}', ''),
                           coalesce(',' || '{"idType":"GOOGLE_AID","idValue":"' || warehouse_sync.changes_people_2.google_aid || '"}', '')), 2), ''),
         coalesce(CASE
                      WHEN (warehouse_sync.changes_people_2.sha256_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.sha512_email IS NOT NULL
                            OR warehouse_sync.changes_people_2.google_aid IS NOT NULL) THEN ']'
                  END, ''), coalesce(',"firstName":' || to_json(to_variant(warehouse_sync.changes_people_2.first_name)), ''),
         coalesce(',"lastName":' || to_json(to_variant(warehouse_sync.changes_people_2.last_name)), ''), coalesce(',"title":' || to_json(to_variant(warehouse_sync.changes_people_2.title)),
                                                                                                           ''),
         coalesce(',"company":' || to_json(to_variant(warehouse_sync.changes_people_2.company)), ''), coalesce(',"country":"' || warehouse_sync.changes_people_2.country || '"',
                                                                                                        ''),
         coalesce('… 3 characters 23cabf46 …', '')) AS concat_1
FROM warehouse_sync.changes_people_2
WHERE warehouse_sync.changes_people_2.seq > ?
  AND warehouse_sync.changes_people_2.seq <= ?
ORDER BY warehouse_sync.changes_people_2.seq;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 78
INSERT INTO warehouse_sync.sync_log (logged_at,
                              run_id, sync, destination, audience_key, seq, operation, outcome, reason, message,
                              primary_key, identity, attempt)
SELECT
  (SELECT SYSDATE() AS sysdate_1) AS anon_1, ? AS anon_2, ? AS sync, ? AS destination, ? AS audience_key, warehouse_sync.changes_people_2.seq,
       warehouse_sync.changes_people_2.operation, ? AS anon_3, ? AS anon_4, ? AS anon_5, warehouse_sync.changes_people_2.primary_key,
       warehouse_sync.changes_people_2.identity, warehouse_sync.changes_people_2.attempt + ? AS anon_6
FROM warehouse_sync.changes_people_2
WHERE warehouse_sync.changes_people_2.seq > ?
  AND warehouse_sync.changes_people_2.seq <= ?;

-- as statement 56: UPDATE warehouse_sync.runs SET delivered_add=?, delivered_remove=?, re

-- phase: finish

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 57: UPDATE warehouse_sync.runs SET phase=? WHERE warehouse_sync.runs.run_i

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 58: DELETE FROM warehouse_sync.retry_queue WHERE warehouse_sync.retry_queu

-- as statement 59: DELETE FROM warehouse_sync.sync_log WHERE warehouse_sync.sync_log.sync

-- as statement 60: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- as statement 61: SELECT warehouse_sync.retry_queue.state, count(*) AS count_1 FROM ware

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 62: UPDATE warehouse_sync.runs SET status=?, reason=?, deferred=?, dead=?,

-- as statement 63: UPDATE warehouse_sync.syncs SET lease_holder=?, lease_expires_at=? WHE


-- ===== run with rejected rows: 50 statements

-- phase: open and check

-- as statement 1: SELECT regexp_instr(?, '… 168 characters cdf87751 …') > 0 AS anon_1, r

-- as statement 2: SELECT * FROM (select * from people) AS model WHERE false

-- as statement 3: SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked

-- phase: lease

-- as statement 4: DESCRIBE SCHEMA warehouse_sync

-- as statement 64: DESCRIBE TABLE warehouse_sync.schema_version

-- as statement 65: SELECT warehouse_sync.schema_version.version_num FROM warehouse_sync.s

-- as statement 30: SELECT warehouse_sync.syncs.sync FROM warehouse_sync.syncs WHERE wareh

-- as statement 33: UPDATE warehouse_sync.syncs SET lease_holder=?, lease_token=(warehouse

-- as statement 34: SELECT warehouse_sync.syncs.lease_holder, warehouse_sync.syncs.lease_t

-- as statement 35: SELECT warehouse_sync.syncs.audience_type, warehouse_sync.syncs.audien

-- as statement 37: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- as statement 38: SELECT warehouse_sync.installation.id FROM warehouse_sync.installation

-- as statement 66: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 40: SELECT warehouse_sync.installation.last_run FROM warehouse_sync.instal

-- as statement 41: UPDATE warehouse_sync.installation SET last_run=? WHERE warehouse_sync

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 42: INSERT INTO warehouse_sync.runs (run_id, sync, destination, audience_k

-- statement 79
DESCRIBE TABLE warehouse_sync.snapshot_people_2;

-- statement 80
SELECT count(*) AS count_1
FROM warehouse_sync.snapshot_people_2
WHERE warehouse_sync.snapshot_people_2.reason IS NULL;

-- as statement 69: SELECT DISTINCT warehouse_sync.retry_queue.operation FROM warehouse_sy

-- as statement 43: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- phase: snapshot

-- as statement 44: SELECT sha2(CASE WHEN (octet_length(regexp_replace(vector.address, '… 

-- statement 81
CREATE TRANSIENT TABLE warehouse_sync.snapshot_people_3 AS
SELECT ranked.identity, ranked.fingerprint, ranked.primary_key, ranked.query_rows, ranked.reason, ranked.left_out,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.row_hash
       END AS row_hash, ranked.carried, CASE WHEN (ranked.reason IS NULL) THEN ranked.sha256_email
                                        END AS sha256_email,
       CAST(NULL AS TEXT) AS sha512_email, CASE WHEN (ranked.reason IS NULL) THEN ranked.google_aid
                                           END AS google_aid,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.first_name
       END AS first_name, CAST(NULL AS TEXT) AS last_name, CAST(NULL AS TEXT) AS title, CAST(NULL AS TEXT) AS company,
       CASE WHEN (ranked.reason IS NULL) THEN ranked.country
       END AS country
FROM
  (SELECT keyed.primary_key AS primary_key, keyed.row_hash AS row_hash, keyed.reason AS reason, keyed.left_out AS left_out,
          keyed.sha256_email AS sha256_email, keyed.google_aid AS google_aid, keyed.first_name AS first_name, keyed.country AS country,
          keyed.carried AS carried, keyed.identity AS identity, keyed.fingerprint AS fingerprint,
          row_number() OVER (PARTITION BY keyed.identity,
                    keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                  END
                             ORDER BY keyed."key 0" NULLS LAST, keyed.fingerprint) AS place,
          count(*) OVER (PARTITION BY keyed.identity,
                     keyed.reason, CASE WHEN (keyed.reason IS NOT NULL) THEN keyed.primary_key
                                   END) AS query_rows
   FROM
     (SELECT judged."key 0" AS "key 0", judged.primary_key AS primary_key, judged.row_hash AS row_hash, judged.reason AS reason,
             judged.left_out AS left_out, judged.sha256_email AS sha256_email, judged.google_aid AS google_aid, judged.first_name AS first_name,
             judged.country AS country, false AS carried,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce('',
                                                                                                               ''),
                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                   ''),
                                                                                                          ''),
                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                   ''),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS identity,
                                                 CASE
                                                     WHEN (judged.reason IS NULL) THEN CAST(left(sha2(concat(coalesce(concat(coalesce('',
                                                                                                                               ''),
                                                                                                                        coalesce(coalesce('sha256_email=' || CAST(length(judged.sha256_email) AS TEXT) || ':' || judged.sha256_email || ';',
                                                                                                                                   ''),
                                                                                                                          ''),
                                                                                                                        coalesce(coalesce('google_aid=' || CAST(length(judged.google_aid) AS TEXT) || ':' || judged.google_aid || ';',
                                                                                                                                   ''),
                                                                                                                          '')),
                                                                                                               ''),
                                                                                                        coalesce('|',
                                                                                                          ''),
                                                                                                        coalesce(concat(coalesce('',
                                                                                                                          ''),
                                                                                                                   coalesce(coalesce('first_name=' || CAST(length(judged.first_name) AS TEXT) || ':' || judged.first_name || ';',
                                                                                                                              ''),
                                                                                                                     ''),
                                                                                                                   coalesce(coalesce('country=' || CAST(length(judged.country) AS TEXT) || ':' || judged.country || ';',
                                                                                                                              ''),
                                                                                                                     '')),
                                                                                                          '')),
                                                                                                   256),
                                                                                              32) AS CHAR(32))
                                                 END AS fingerprint
      FROM
        (SELECT examined."key 0" AS "key 0", examined.primary_key AS primary_key, examined.row_hash AS row_hash,
                CASE WHEN (examined."sha256_email problem" IS NULL) THEN sha2(examined.sha256_email,
                                                                           256)
                END AS sha256_email, CASE WHEN (examined."google_aid problem" IS NULL) THEN examined.google_aid
                                     END AS google_aid,
                CASE
                    WHEN (examined."first_name problem" IS NULL) THEN CASE
                                                                          WHEN (octet_length(examined.first_name) > 35
                                                                                AND length(examined.first_name) > 35) THEN left(examined.first_name,
                                                                                                                             35) ELSE examined.first_name
                                                                      END
                END AS first_name, CASE WHEN (examined."country problem" IS NULL) THEN upper(examined.country)
                                   END AS country,
                CASE WHEN (examined."sha256_email problem" = 'already_hashed') THEN 'already_hashed' WHEN (examined."sha256_email problem" = 'not_hashed') THEN 'not_hashed'
                    WHEN ((examined.sha256_email IS NULL
                           OR examined."sha256_email problem" IS NOT NULL)
                          AND (examined.google_aid IS NULL
                               OR examined."google_aid problem" IS NOT NULL)) THEN 'no_identifier'
                END AS reason,
                CASE
                    WHEN (examined."sha256_email problem" IS NOT NULL
                          OR examined."google_aid problem" IS NOT NULL
                          OR examined."first_name problem" IS NOT NULL
                          OR examined."country problem" IS NOT NULL) THEN concat(coalesce(CASE
                                                                                              WHEN (examined."sha256_email problem" IS NOT NULL) THEN 'sha256_email:' || examined."sha256_email problem" || ' '
                                                                                          END,
                                                                                   ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."google_aid problem" IS NOT NULL) THEN 'google_aid:' || examined."google_aid problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."first_name problem" IS NOT NULL) THEN 'first_name:' || examined."first_name problem" || ' '
                                                                                     END,
                                                                              ''),
                                                                            coalesce(CASE
                                                                                         WHEN (examined."country problem" IS NOT NULL) THEN 'country:' || examined."country problem" || ' '
                                                                                     END,
                                                                              ''))
                END AS left_out
         FROM
           (SELECT cleaned."key 0" AS "key 0", cleaned.primary_key AS primary_key, cleaned.row_hash AS row_hash,
                   cleaned.sha256_email AS sha256_email, cleaned.google_aid AS google_aid, cleaned.first_name AS first_name, cleaned.country AS country,
                   CASE
                       WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                  AND cleaned.sha256_email NOT LIKE '%@%@%'
                                  AND cleaned.sha256_email NOT LIKE '%@.%'
                                  AND cleaned.sha256_email NOT LIKE '%@%..%'
                                  AND cleaned.sha256_email NOT LIKE '%.')
                             OR octet_length(cleaned.sha256_email) > 320) THEN CASE
                                                                                   WHEN ((length(cleaned.sha256_email) = 64
                                                                                          OR length(cleaned.sha256_email) = 128)
                                                                                         AND regexp_instr(cleaned.sha256_email,
                                                                                               '^[0-9a-f]+$') > 0) THEN 'already_hashed'
                                                                                   WHEN (length(cleaned.sha256_email) > 320) THEN 'too_long'
                                                                                   WHEN (NOT (cleaned.sha256_email LIKE '_%@_%._%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%@%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@.%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%@%..%'
                                                                                              AND cleaned.sha256_email NOT LIKE '%.')) THEN 'not_an_address'
                                                                               END
                   END AS "sha256_email problem",
                   CASE
                       WHEN (NOT (regexp_instr(cleaned.google_aid, '^[0-9a-f-]+$') > 0
                                  AND length(replace(cleaned.google_aid, '-', '')) = 32
                                  AND (length(cleaned.google_aid) = 32
                                       OR cleaned.google_aid LIKE '________-____-____-____-____________'))) THEN 'not_a_device_id' WHEN (regexp_instr(cleaned.google_aid,
                                                                                                                                           '^[0-]+$') > 0) THEN 'opted_out'
                   END AS "google_aid problem",
                   CASE
                       WHEN (cleaned."suspicious row"
                             AND regexp_instr(cleaned.first_name, '… 98 characters 9ede5e27 …') > 0) THEN 'holds_an_address'
                   END AS "first_name problem",
                   CASE WHEN (regexp_instr(cleaned.country, '^[A-Za-z]{2}$') <= 0) THEN 'not_a_country_code'
                   END AS "country problem"
            FROM
              (SELECT "rows"."key 0" AS "key 0", "rows".primary_key AS primary_key, "rows".row_hash AS row_hash,
                      nullif(CASE
                                 WHEN (regexp_instr(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                              ''), chr(0), ''), '^[!-~]+$') > 0) THEN lower(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                      ''),
                                                                                                              chr(0), ''))
                                 ELSE CASE
                                          WHEN (octet_length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                      ''),
                                                                              chr(0), ''),
                                                               '… 44 characters d3f9508b …', '')) = length(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                    ''),
                                                                                                                            chr(0),
                                                                                                                            ''),
                                                                                                             '… 44 characters d3f9508b …', ''))) THEN lower(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                                                                                                                     ''),
                                                                                                                                                                             chr(0),
                                                                                                                                                                             ''),
                                                                                                                                                              '… 44 characters d3f9508b …',
                                                                                                                                                              ''))
                                          ELSE translate(regexp_replace(replace(collate(CAST("rows"."raw sha256_email" AS TEXT),
                                                                                  ''),
                                                                          chr(0), ''),
                                                           '… 44 characters d3f9508b …', ''),
                                                 '… 1433 characters a4624b46 …', '… 1433 characters 841cd6ec …')
                                      END
                             END, '') AS sha256_email,
                      nullif(lower(regexp_replace(replace(collate(CAST("rows"."raw google_aid" AS TEXT),
                                                            ''), chr(0), ''),
                                     '… 91 characters 7b168211 …', '')), '') AS google_aid,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS first_name,
                      nullif(regexp_replace(replace(collate(CAST("rows"."raw country" AS TEXT), ''), chr(0), ''), '… 91 characters 7b168211 …', ''), '') AS country, (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT),
                                                                                                                                                                                                ''),
                                                                                                                                                                                        chr(0),
                                                                                                                                                                                        ''),
                                                                                                                                                                               '')) LIKE '%' || '@' || '%')
               OR (concat(coalesce(replace(collate(CAST("rows"."raw first_name" AS TEXT), ''), chr(0), ''), '')) LIKE '%' || '/%40' || '%' ESCAPE '/') AS "suspicious row"
               FROM
                 (SELECT "ID" AS "key 0",
                         CASE
                             WHEN ((replace(collate(CAST("ID" AS TEXT), ''), chr(0), '') LIKE '%' || '@' || '%')
                                   OR length(replace(collate(CAST("ID" AS TEXT), ''), chr(0), '')) > 200) THEN 'sha256:' || sha2(replace(collate(CAST("ID" AS TEXT),
                                                                                                                                           ''),
                                                                                                                                   chr(0),
                                                                                                                                   ''),
                                                                                                                              256) ELSE replace(collate(CAST("ID" AS TEXT),
                                                                                                                                                  ''),
                                                                                                                                          chr(0),
                                                                                                                                          '')
                         END AS primary_key, "EMAIL" AS "raw sha256_email", "DEVICE" AS "raw google_aid", "FIRST_NAME" AS "raw first_name",
                         "COUNTRY" AS "raw country", CAST(NULL AS BIGINT) AS row_hash
                  FROM
                    (select *
                     from people) AS model) AS "rows") AS cleaned) AS examined) AS judged) AS keyed) AS ranked
WHERE ranked.place = 1;

-- statement 82
SELECT warehouse_sync.snapshot_people_3.reason, warehouse_sync.snapshot_people_3.left_out, count(*) AS lines,
       CAST(coalesce(sum(warehouse_sync.snapshot_people_3.query_rows), ?) AS BIGINT) AS query_rows, CAST(sum(CASE
                                                                                                                 WHEN warehouse_sync.snapshot_people_3.carried THEN ?
                                                                                                                 ELSE ?
                                                                                                             END) AS BIGINT) AS carried
FROM warehouse_sync.snapshot_people_3
GROUP BY warehouse_sync.snapshot_people_3.reason, warehouse_sync.snapshot_people_3.left_out;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 47: UPDATE warehouse_sync.runs SET phase=?, query_rows=?, members=?, rejec

-- phase: changes

-- as statement 72: SELECT EXISTS (SELECT warehouse_sync.retry_queue.seq FROM warehouse_sy

-- statement 83
CREATE TRANSIENT TABLE warehouse_sync.changes_people_3 AS WITH removes AS
  (SELECT 'REMOVE' AS operation, 'left' AS cause, false AS held, anon_1.identity AS identity,
                                                           anon_1.fingerprint AS fingerprint, anon_1.primary_key AS primary_key,
                                                           anon_1.sha256_email AS sha256_email, anon_1.sha512_email AS sha512_email,
                                                           anon_1.google_aid AS google_aid, anon_1.first_name AS first_name,
                                                           anon_1.last_name AS last_name, anon_1.title AS title, anon_1.company AS company,
                                                           anon_1.country AS country, 0 AS attempt,
                                                           CAST(NULL AS datetime) AS deferred_since, false AS dead,
                                                                                                              CAST(NULL AS datetime) AS next_attempt_at,
                                                                                                              CAST(NULL AS TEXT) AS last_reason,
                                                                                                              CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_2.identity AS identity, warehouse_sync.snapshot_people_2.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_2.primary_key AS primary_key, warehouse_sync.snapshot_people_2.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_2.sha512_email AS sha512_email, warehouse_sync.snapshot_people_2.google_aid AS google_aid,
             warehouse_sync.snapshot_people_2.first_name AS first_name, warehouse_sync.snapshot_people_2.last_name AS last_name,
             warehouse_sync.snapshot_people_2.title AS title, warehouse_sync.snapshot_people_2.company AS company,
             warehouse_sync.snapshot_people_2.country AS country
      FROM warehouse_sync.snapshot_people_2
      WHERE warehouse_sync.snapshot_people_2.reason IS NULL
        AND warehouse_sync.snapshot_people_2.identity IN
          (SELECT warehouse_sync.snapshot_people_2.identity
           FROM warehouse_sync.snapshot_people_2
           LEFT OUTER JOIN warehouse_sync.snapshot_people_3 ON warehouse_sync.snapshot_people_2.identity = warehouse_sync.snapshot_people_3.identity
           AND NOT warehouse_sync.snapshot_people_3.carried
           WHERE warehouse_sync.snapshot_people_3.identity IS NULL)) AS anon_1),
                                                               adds AS
  (SELECT 'ADD' AS operation, 'joined' AS cause, false AS held, anon_2.identity AS identity,
                                                          anon_2.fingerprint AS fingerprint, anon_2.primary_key AS primary_key,
                                                          anon_2.sha256_email AS sha256_email, anon_2.sha512_email AS sha512_email,
                                                          anon_2.google_aid AS google_aid, anon_2.first_name AS first_name,
                                                          anon_2.last_name AS last_name, anon_2.title AS title, anon_2.company AS company,
                                                          anon_2.country AS country, 0 AS attempt, CAST(NULL AS datetime) AS deferred_since,
                                                          false AS dead, CAST(NULL AS datetime) AS next_attempt_at,
                                                                   CAST(NULL AS TEXT) AS last_reason, CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_3.identity AS identity, warehouse_sync.snapshot_people_3.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_3.primary_key AS primary_key, warehouse_sync.snapshot_people_3.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_3.sha512_email AS sha512_email, warehouse_sync.snapshot_people_3.google_aid AS google_aid,
             warehouse_sync.snapshot_people_3.first_name AS first_name, warehouse_sync.snapshot_people_3.last_name AS last_name,
             warehouse_sync.snapshot_people_3.title AS title, warehouse_sync.snapshot_people_3.company AS company,
             warehouse_sync.snapshot_people_3.country AS country
      FROM warehouse_sync.snapshot_people_3
      WHERE warehouse_sync.snapshot_people_3.reason IS NULL
        AND NOT warehouse_sync.snapshot_people_3.carried
        AND warehouse_sync.snapshot_people_3.fingerprint IN
          (SELECT warehouse_sync.snapshot_people_3.fingerprint
           FROM warehouse_sync.snapshot_people_3
           LEFT OUTER JOIN warehouse_sync.snapshot_people_2 ON warehouse_sync.snapshot_people_3.fingerprint = warehouse_sync.snapshot_people_2.fingerprint
           WHERE warehouse_sync.snapshot_people_2.fingerprint IS NULL
             AND NOT warehouse_sync.snapshot_people_3.carried)) AS anon_2),
                                                               readds AS
  (SELECT 'ADD' AS operation, 'shared' AS cause, false AS held, anon_3.identity AS identity,
                                                          anon_3.fingerprint AS fingerprint, anon_3.primary_key AS primary_key,
                                                          anon_3.sha256_email AS sha256_email, anon_3.sha512_email AS sha512_email,
                                                          anon_3.google_aid AS google_aid, anon_3.first_name AS first_name,
                                                          anon_3.last_name AS last_name, anon_3.title AS title, anon_3.company AS company,
                                                          anon_3.country AS country, 0 AS attempt, CAST(NULL AS datetime) AS deferred_since,
                                                          false AS dead, CAST(NULL AS datetime) AS next_attempt_at,
                                                                   CAST(NULL AS TEXT) AS last_reason, CAST(NULL AS TEXT) AS last_message
   FROM
     (SELECT warehouse_sync.snapshot_people_3.identity AS identity, warehouse_sync.snapshot_people_3.fingerprint AS fingerprint,
             warehouse_sync.snapshot_people_3.primary_key AS primary_key, warehouse_sync.snapshot_people_3.sha256_email AS sha256_email,
             warehouse_sync.snapshot_people_3.sha512_email AS sha512_email, warehouse_sync.snapshot_people_3.google_aid AS google_aid,
             warehouse_sync.snapshot_people_3.first_name AS first_name, warehouse_sync.snapshot_people_3.last_name AS last_name,
             warehouse_sync.snapshot_people_3.title AS title, warehouse_sync.snapshot_people_3.company AS company,
             warehouse_sync.snapshot_people_3.country AS country
      FROM warehouse_sync.snapshot_people_3
      JOIN
        (SELECT warehouse_sync.snapshot_people_3.identity AS identity
         FROM warehouse_sync.snapshot_people_3
         WHERE warehouse_sync.snapshot_people_3.sha256_email IN
             (SELECT removes.sha256_email
              FROM removes)
         UNION SELECT warehouse_sync.snapshot_people_3.identity AS identity
         FROM warehouse_sync.snapshot_people_3
         WHERE warehouse_sync.snapshot_people_3.sha512_email IN
             (SELECT removes.sha512_email
              FROM removes)
         UNION SELECT warehouse_sync.snapshot_people_3.identity AS identity
         FROM warehouse_sync.snapshot_people_3
         WHERE warehouse_sync.snapshot_people_3.google_aid IN
             (SELECT removes.google_aid
              FROM removes)) AS affected ON affected.identity = warehouse_sync.snapshot_people_3.identity
      WHERE NOT (EXISTS
                   (SELECT *
                    FROM adds
                    WHERE adds.identity = warehouse_sync.snapshot_people_3.identity))) AS anon_3)
SELECT operations.seq, operations.operation, operations.cause, operations.held, operations.identity, operations.fingerprint,
       operations.primary_key, operations.sha256_email, operations.sha512_email, operations.google_aid, operations.first_name,
       operations.last_name, operations.title, operations.company, operations.country, operations.attempt, operations.deferred_since,
       operations.dead, operations.next_attempt_at, operations.last_reason, operations.last_message
FROM
  (SELECT CAST(row_number() OVER (
                                  ORDER BY NULL) AS BIGINT) AS seq, removes.operation AS operation, removes.cause AS cause, removes.held AS held,
          removes.identity AS identity, removes.fingerprint AS fingerprint, removes.primary_key AS primary_key,
          removes.sha256_email AS sha256_email, removes.sha512_email AS sha512_email, removes.google_aid AS google_aid,
          removes.first_name AS first_name, removes.last_name AS last_name, removes.title AS title, removes.company AS company,
          removes.country AS country, removes.attempt AS attempt, removes.deferred_since AS deferred_since, removes.dead AS dead,
          removes.next_attempt_at AS next_attempt_at, removes.last_reason AS last_reason, removes.last_message AS last_message
   FROM removes
   UNION ALL SELECT CAST(row_number() OVER (
                                            ORDER BY NULL) +
                           (SELECT count(*) AS count_1
                            FROM removes) AS BIGINT) AS seq, adds.operation AS operation, adds.cause AS cause, adds.held AS held, adds.identity AS identity,
                    adds.fingerprint AS fingerprint, adds.primary_key AS primary_key, adds.sha256_email AS sha256_email,
                    adds.sha512_email AS sha512_email, adds.google_aid AS google_aid, adds.first_name AS first_name, adds.last_name AS last_name,
                    adds.title AS title, adds.company AS company, adds.country AS country, adds.attempt AS attempt,
                    adds.deferred_since AS deferred_since, adds.dead AS dead, adds.next_attempt_at AS next_attempt_at, adds.last_reason AS last_reason,
                    adds.last_message AS last_message
   FROM adds
   UNION ALL SELECT CAST(row_number() OVER (
                                            ORDER BY NULL) +
                           (SELECT count(*) AS count_2
                            FROM removes) +
                           (SELECT count(*) AS count_3
                            FROM adds) AS BIGINT) AS seq, readds.operation AS operation, readds.cause AS cause, readds.held AS held,
                    readds.identity AS identity, readds.fingerprint AS fingerprint, readds.primary_key AS primary_key,
                    readds.sha256_email AS sha256_email, readds.sha512_email AS sha512_email, readds.google_aid AS google_aid,
                    readds.first_name AS first_name, readds.last_name AS last_name, readds.title AS title, readds.company AS company,
                    readds.country AS country, readds.attempt AS attempt, readds.deferred_since AS deferred_since, readds.dead AS dead,
                    readds.next_attempt_at AS next_attempt_at, readds.last_reason AS last_reason, readds.last_message AS last_message
   FROM readds) AS operations
ORDER BY seq;

-- statement 84
SELECT coalesce(sum(CASE WHEN warehouse_sync.changes_people_3.held THEN ? ELSE ?
                    END), ?) AS coalesce_1,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_3.held
                              AND warehouse_sync.changes_people_3.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_3,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_3.held
                              AND warehouse_sync.changes_people_3.operation = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_5,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_3.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_7,
       coalesce(sum(CASE WHEN (warehouse_sync.changes_people_3.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_9,
       coalesce(sum(CASE
                        WHEN (NOT warehouse_sync.changes_people_3.held
                              AND warehouse_sync.changes_people_3.cause = ?) THEN ? ELSE ?
                    END), ?) AS coalesce_11
FROM warehouse_sync.changes_people_3;

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 50: UPDATE warehouse_sync.runs SET phase=?, planned_add=?, planned_remove=

-- phase: promote

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 85
INSERT INTO warehouse_sync.sync_log (logged_at,
                              run_id, sync, destination, audience_key, seq, operation, outcome, reason, message,
                              primary_key, identity, attempt)
SELECT
  (SELECT SYSDATE() AS sysdate_1) AS anon_1, ? AS anon_2, ? AS sync, ? AS destination, ? AS audience_key, CAST(NULL AS BIGINT) AS anon_3,
       CAST(NULL AS VARCHAR) AS anon__1, ? AS anon_4, warehouse_sync.snapshot_people_3.reason,
       CASE WHEN (warehouse_sync.snapshot_people_3.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_3.reason = ?) THEN ? WHEN (warehouse_sync.snapshot_people_3.reason = ?) THEN ?
       END AS anon_5, warehouse_sync.snapshot_people_3.primary_key, CAST(NULL AS CHAR(32)) AS anon__2,
       CAST(NULL AS INTEGER) AS anon__3
FROM warehouse_sync.snapshot_people_3
WHERE warehouse_sync.snapshot_people_3.reason IS NOT NULL
  AND NOT (EXISTS
             (SELECT *
              FROM warehouse_sync.snapshot_people_2
              WHERE warehouse_sync.snapshot_people_2.reason = warehouse_sync.snapshot_people_3.reason
                AND coalesce(warehouse_sync.snapshot_people_2.primary_key, ?) = coalesce(warehouse_sync.snapshot_people_3.primary_key,
                                                                                  ?)));

-- as statement 52: UPDATE warehouse_sync.syncs SET audience_type=?, audience_id=?, promot

-- as statement 53: UPDATE warehouse_sync.runs SET phase=?, audience_id=?, watermark=?, pr

-- phase: finish

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 57: UPDATE warehouse_sync.runs SET phase=? WHERE warehouse_sync.runs.run_i

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 58: DELETE FROM warehouse_sync.retry_queue WHERE warehouse_sync.retry_queu

-- as statement 59: DELETE FROM warehouse_sync.sync_log WHERE warehouse_sync.sync_log.sync

-- as statement 60: SELECT warehouse_sync.runs.run_id, warehouse_sync.runs.sync, warehouse

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- statement 86
DROP TABLE IF EXISTS warehouse_sync.changes_people_1;

-- statement 87
DROP TABLE IF EXISTS warehouse_sync.snapshot_people_1;

-- statement 88
UPDATE warehouse_sync.runs
SET snapshot_table=?, changes_table=?
WHERE warehouse_sync.runs.run_id = ?;

-- as statement 61: SELECT warehouse_sync.retry_queue.state, count(*) AS count_1 FROM ware

-- as statement 39: UPDATE warehouse_sync.syncs SET lease_expires_at=dateadd(millisecond, 

-- as statement 62: UPDATE warehouse_sync.runs SET status=?, reason=?, deferred=?, dead=?,

-- as statement 63: UPDATE warehouse_sync.syncs SET lease_holder=?, lease_expires_at=? WHE
