-- GPUs are counted at dispatch. Of runs that have stopped nothing is reserved.
ALTER TABLE runs ADD COLUMN gpus INTEGER;
UPDATE runs SET gpus = json_extract(task, '$.gpu') WHERE status <> 'STOPPED';
