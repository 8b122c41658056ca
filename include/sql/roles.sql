-- Roles and databases. Run by the superuser before the migrations; passwords are set separately.
-- A role can do what its work needs and nothing else; the migrations hold the grants.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['owner', 'stream_writer', 'trainer', 'app', 'personal', 'grafana', 'relay',
        'airflow', 'mlflow'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole', role_name);
        end if;
    end loop;
end
$$;
