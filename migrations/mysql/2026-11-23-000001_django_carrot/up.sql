-- django-carrot 1.5.0's two tables, column for column. If Django has made them already, they stay as
-- they are. Django's ids of messages end at 2147483647, which a busy service reaches within days; its
-- models read larger ones all the same.
CREATE TABLE IF NOT EXISTS carrot_messagelog (
    id              bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    status          varchar(11) NOT NULL,
    exchange        varchar(200),
    queue           varchar(200),
    routing_key     varchar(200),
    uuid            varchar(200) NOT NULL,
    priority        integer unsigned NOT NULL,
    task            varchar(200) NOT NULL,
    task_args       longtext,
    content         longtext,
    exception       longtext,
    traceback       longtext,
    output          longtext,
    publish_time    datetime(6),
    failure_time    datetime(6),
    completion_time datetime(6),
    log             longtext
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS carrot_scheduledtask (
    id              integer NOT NULL AUTO_INCREMENT PRIMARY KEY,
    interval_type   varchar(200) NOT NULL,
    interval_count  integer unsigned NOT NULL,
    exchange        varchar(200),
    routing_key     varchar(200),
    queue           varchar(200),
    task            varchar(200) NOT NULL,
    task_args       longtext,
    content         longtext,
    active          tinyint(1) NOT NULL,
    task_name       varchar(200)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
