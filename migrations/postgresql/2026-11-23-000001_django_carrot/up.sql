-- django-carrot 1.5.0's two tables, column for column. If Django has made them already, they stay as
-- they are. Django's ids of messages end at 2147483647, which a busy service reaches within days; its
-- models read larger ones all the same.
CREATE TABLE IF NOT EXISTS carrot_messagelog (
    id              bigserial PRIMARY KEY,
    status          varchar(11) NOT NULL,
    exchange        varchar(200),
    queue           varchar(200),
    routing_key     varchar(200),
    uuid            varchar(200) NOT NULL,
    priority        integer NOT NULL CONSTRAINT carrot_messagelog_priority_check CHECK (priority >= 0),
    task            varchar(200) NOT NULL,
    task_args       text,
    content         text,
    exception       text,
    traceback       text,
    output          text,
    publish_time    timestamptz,
    failure_time    timestamptz,
    completion_time timestamptz,
    log             text
);

CREATE TABLE IF NOT EXISTS carrot_scheduledtask (
    id              serial PRIMARY KEY,
    interval_type   varchar(200) NOT NULL,
    interval_count  integer NOT NULL CONSTRAINT carrot_scheduledtask_interval_count_check CHECK (interval_count >= 0),
    exchange        varchar(200),
    routing_key     varchar(200),
    queue           varchar(200),
    task            varchar(200) NOT NULL,
    task_args       text,
    content         text,
    active          boolean NOT NULL,
    task_name       varchar(200)
);
