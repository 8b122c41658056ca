-- Figures by which the watch decides: the last parity check of this feature set that compared anything, and how many
-- messages of the last day did not arrive, by channel.
select coalesce((select mismatches from shop.parity_checks
                 where rows > 0 and feature_set = %(feature_set)s order by id desc limit 1), '[]') as mismatches,
       (select coalesce(jsonb_object_agg(channel, number), '{}')
        from (select channel, count(*) as number from shop.outbox
              where undeliverable and created_at > clock_timestamp() - interval '1 day' group by channel) as lost)
           as undelivered
