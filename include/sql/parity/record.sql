-- Keeps what a check found.
insert into shop.parity_checks (feature_set, rows, merchants, left_out, share, seconds, mismatches)
values (%(feature_set)s, %(rows)s, %(merchants)s, %(left_out)s, %(share)s, %(seconds)s, %(mismatches)s)
