-- What is to be added to the cells.
create temporary table fresh on commit drop as
select n.* from monitoring.not_rolled_up n join positions p using (topic, partition)
where (n.generation, n."offset") < (p.generation, p.next_offset)
