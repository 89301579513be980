"""A day of a Python program: it defines a task, launches it, reads its log, stops another, finds both, deletes."""

import sys
import time

from flotilla_client import Client
from flotilla_client.api.launches import execute_task, execute_task_by_alias
from flotilla_client.api.logs import get_log
from flotilla_client.api.runs import get_run, get_run_status, list_runs, stop_run
from flotilla_client.api.tasks import create_task, delete_task, get_task, list_tasks, update_task
from flotilla_client.models import (
    Definition,
    DefinitionList,
    DefinitionRequest,
    DefinitionUpdate,
    Deregistered,
    EnvVar,
    ErrorBody,
    LaunchRequest,
    LaunchRequestRunTags,
    LogChunk,
    Outcome,
    Run,
    RunList,
    RunSort,
    RunStatus,
    Status,
    StoppedRun,
)
from flotilla_client.types import UNSET


def wait_until_stopped(client: Client, run_id: str) -> Run:
    while True:
        status = get_run_status.sync(run_id, client=client)
        assert isinstance(status, RunStatus), status
        if status.status is Status.STOPPED:
            run = get_run.sync(run_id, client=client)
            assert isinstance(run, Run), run
            return run
        time.sleep(0.05)


def walk(client: Client) -> None:
    task = create_task.sync(
        client=client,
        body=DefinitionRequest(
            alias="greeting",
            group_name="clients",
            image="none",
            command='echo "hello $NAME"; echo done',
            env=[EnvVar(name="NAME", value="nobody")],
            memory=64,
            tags=["example"],
        ),
    )
    assert isinstance(task, Definition), task
    assert (task.alias, task.memory, task.cpu) == ("greeting", 64, UNSET)

    launch = LaunchRequest(env=[EnvVar(name="NAME", value="Ada")], run_tags=LaunchRequestRunTags.from_dict({"owner_id": "ada"}))
    run = execute_task.sync(task.definition_id, client=client, body=launch)
    assert isinstance(run, Run), run
    assert run.status is Status.QUEUED
    assert (run.user, run.exit_code, run.started_at, run.outcome) == ("ada", UNSET, UNSET, UNSET)
    run = wait_until_stopped(client, run.run_id)
    assert (run.outcome, run.exit_code) == (Outcome.SUCCEEDED, 0), run
    log = get_log.sync(run.run_id, client=client)
    assert isinstance(log, LogChunk), log
    assert log.log == "hello Ada\ndone\n", log

    changed = update_task.sync(task.definition_id, client=client, body=DefinitionUpdate(command="sleep 1000"))
    assert isinstance(changed, Definition) and changed.memory == 64, changed
    # A launch needs no body.
    long = execute_task_by_alias.sync("greeting", client=client)
    assert isinstance(long, Run), long
    stopped = stop_run.sync(task.definition_id, long.run_id, client=client)
    assert isinstance(stopped, StoppedRun) and stopped.stopped, stopped
    ended = wait_until_stopped(client, long.run_id)
    assert ended.outcome is Outcome.STOPPED, ended

    listed = list_runs.sync(
        client=client,
        status=[Status.STOPPED, Status.RUNNING],
        alias=["greeting", "something else"],
        outcome=[Outcome.SUCCEEDED],
        sort_by=RunSort.STARTED_AT,
        limit=10,
    )
    assert isinstance(listed, RunList), listed
    assert [found.run_id for found in listed.history] == [run.run_id] and listed.total == 1, listed
    tasks = list_tasks.sync(client=client, alias=["greet"], tag=["example"], env=["NAME|nobody"])
    assert isinstance(tasks, DefinitionList) and tasks.total == 1, tasks

    deleted = delete_task.sync(task.definition_id, client=client)
    assert isinstance(deleted, Deregistered) and deleted.deleted, deleted
    gone = get_task.sync(task.definition_id, client=client)
    assert isinstance(gone, ErrorBody) and task.definition_id in gone.error, gone


walk(Client(base_url=sys.argv[1], raise_on_unexpected_status=True))
print("arrived")
