select exists (select from shop.models), (
    select count(*) from (
        select from shop.transactions
        where timestamp > (select max(timestamp) from shop.transactions) - %(window)s
        limit %(enough)s
    ) newest
)
