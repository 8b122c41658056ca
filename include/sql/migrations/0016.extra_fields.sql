-- Up to four numbers and four categories of a shop's own beside the named fields, with what the shop calls them.
alter table shop.transactions
    add column number_1 double precision,
    add column number_2 double precision,
    add column number_3 double precision,
    add column number_4 double precision,
    add column category_1 text,
    add column category_2 text,
    add column category_3 text,
    add column category_4 text;
grant select (number_1, number_2, number_3, number_4, category_1, category_2, category_3, category_4)
    on shop.transactions to trainer, app;
grant select (category_1, category_2, category_3, category_4) on shop.transactions to stream_writer;

-- Written when a mapping is first used: a name stays with its field, or features would mix two meanings.
create table shop.extra_fields (
    field text collate "C" primary key,
    name  text collate "C" not null unique
);
grant select, insert on shop.extra_fields to stream_writer;
grant select on shop.extra_fields to app;

-- The categories of a fraud, for what is known of them.
alter table shop.known_labels
    add column category_1 text collate "C",
    add column category_2 text collate "C",
    add column category_3 text collate "C",
    add column category_4 text collate "C";
