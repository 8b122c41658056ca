-- What the shop calls the numbers and categories of its own.
select field, name from shop.extra_fields order by field
