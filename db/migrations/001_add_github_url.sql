-- Where a mission's code lives.

alter table missions add column if not exists github_url text;
