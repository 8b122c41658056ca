-- The behaviour state that the scorer keeps of a user: the one written last.
select layout, state from shop.user_state where user_id = %(user_id)s order by written_at desc limit 1
