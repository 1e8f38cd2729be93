-- django-carrot 1.5.0's two tables, column for column. If Django has made them already, they stay as
-- they are.
CREATE TABLE IF NOT EXISTS carrot_messagelog (
    id              integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    status          varchar(11) NOT NULL,
    exchange        varchar(200),
    queue           varchar(200),
    routing_key     varchar(200),
    uuid            varchar(200) NOT NULL,
    priority        integer unsigned NOT NULL CHECK (priority >= 0),
    task            varchar(200) NOT NULL,
    task_args       text,
    content         text,
    exception       text,
    traceback       text,
    output          text,
    publish_time    datetime,
    failure_time    datetime,
    completion_time datetime,
    log             text
);

CREATE TABLE IF NOT EXISTS carrot_scheduledtask (
    id              integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    interval_type   varchar(200) NOT NULL,
    interval_count  integer unsigned NOT NULL CHECK (interval_count >= 0),
    exchange        varchar(200),
    routing_key     varchar(200),
    queue           varchar(200),
    task            varchar(200) NOT NULL,
    task_args       text,
    content         text,
    active          bool NOT NULL,
    task_name       varchar(200)
);
