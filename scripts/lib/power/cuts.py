"""Power cuts under load, again and again, and what has to be true of every run after each."""
import calendar
import json
import re
import time

from load import COMMANDS, LINES, LONG, Load, expected_log, is_long
from server import Failure, wait

PLACES = 6
# How long anything may take after the power is back, emulated.
PATIENCE = 600
# Longer than any log of a run that goes on until the cut.
MANY_LINES = 5000
# What the log of a run that the cut ended says at its end.
NOTE = re.compile(r'\[flotilla: (the machine was restarted|the server or the machine)[^\n]*may be missing here\]\n$')
# The words for a run whose end nobody saw.
LOST = (
    'the machine was restarted while it ran',
    "its folder can't be read any more, as after a loss of power",
    *(f'its end was not seen: it was dead when the Docker daemon was started, or shortly before, with exit code {code}, '
      'which the daemon notes where it crashed, or its machine lost power or was reset' for code in (0, 255)),
    'the Docker daemon was restarted, or its machine lost power, around the moment it started the container: '
    'whether the command ran is not known',
)

DOCKER_CLUSTER = f'''
[clusters.docker]
engine = "docker"
allow_privileged = true
max_running = {PLACES}
'''
POSTGRES = '''
systemctl enable --now postgresql
cd /
su postgres -c "psql --quiet --command \\"CREATE ROLE flotilla LOGIN PASSWORD 'flotilla'\\""
su postgres -c 'createdb --owner flotilla flotilla'
echo 'FLOTILLA_DATABASE_URL=postgres://flotilla:flotilla@localhost/flotilla' >/etc/flotilla/environment
systemctl restart flotilla
'''
# An image of busybox alone, by the API: Debian 13 has the command line in a package of its own.
DOCKER = '''
systemctl enable --now docker.socket docker.service
mkdir -p /run/image/bin /etc/systemd/system/flotilla.service.d
cp /bin/busybox /run/image/bin/
for name in sh sleep echo; do ln -sf busybox /run/image/bin/$name; done
tar -C /run/image -c . | curl --silent --show-error --fail --unix-socket /run/docker.sock --data-binary @- \\
    --header 'Content-Type: application/x-tar' 'http://docker/images/create?fromSrc=-&repo=busybox&tag=power'
cat >/usr/local/bin/docker-facts <<'END'
#!/bin/sh
ask() { curl --silent --max-time 60 --unix-socket /run/docker.sock "http://docker$1"; echo; }
ask /networks/bridge
for id in $(ask '/containers/json?all=1' | grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do ask "/containers/$id/json"; done
ask "/events?since=0&until=$(date +%s)"
END
chmod +x /usr/local/bin/docker-facts
cat >/etc/systemd/system/flotilla.service.d/docker.conf <<'END'
[Service]
SupplementaryGroups=docker
ExecStartPre=-+/bin/sh -c '/usr/local/bin/docker-facts >/var/tmp/docker-facts'
END
systemctl daemon-reload
systemctl restart flotilla
'''


class CutChecks:
    def __init__(self, guest, world, cuts, random):
        self.guest, self.world, self.cuts, self.random = guest, world, cuts, random
        # By number: every run that ever was accepted, which was asked to stop and which got the answer that it is stopped,
        # and what ended runs looked like.
        self.accepted, self.asked, self.stopped, self.settled = {}, set(), set(), {}
        self.next_number = 0
        # What the witness had said before the last cut.
        self.before_cut = []
        self.tally = {}

    @property
    def server(self):
        return self.guest.server

    def checks(self):
        yield 'the guest boots, and the server is there', self.install
        for cut in range(1, self.cuts + 1):
            yield f'cut {cut}', lambda cut=cut: self.cut_and_check(cut)

    def install(self):
        self.guest.up()
        self.guest.install(self.guest.program, PLACES)
        if self.world == 'postgres':
            self.guest.run(f'set -euo pipefail\n{POSTGRES}')
        if self.world == 'docker':
            self.guest.run("cat >>/etc/flotilla/flotilla.toml <<'END'\n" + DOCKER_CLUSTER + 'END')
            self.guest.run(f'set -euo pipefail\n{DOCKER}')
        self.guest.wait_until_ready()
        # In a container the serial port is there for a privileged one only.
        more = {'privileged': True} if self.world == 'docker' else {}
        for alias, command in COMMANDS.items():
            self.server.define(alias, command, **more)
        self.guest.run('sync')

    def cut_and_check(self, cut):
        # A disk that writes slowly, so that the cut comes between two writes that belong together.
        writes = self.random.choice([20, 40, 80]) if cut % 2 == 0 else 0
        load = Load(self.server, self.random, self.next_number)
        had_started = len(self.guest.witness())
        wait('a run has started', PATIENCE, lambda: len(self.guest.witness()) > had_started, self.guest.describe)
        time.sleep(self.random.uniform(0, 3))
        if writes:
            self.guest.throttle(writes)
        time.sleep(self.random.uniform(1, 10))
        self.guest.cut()
        load.end()
        self.next_number = load.most
        self.accepted.update(load.accepted)
        self.asked.update(load.asked)
        self.stopped.update(load.stopped)
        self.before_cut = self.guest.witness()
        self.guest.up()
        if cut % 3 == 0:
            # Once more, while everything is being found again.
            time.sleep(self.random.uniform(0, 8))
            self.guest.cut()
            self.before_cut = self.guest.witness()
            self.guest.up()
        self.guest.wait_until_ready()
        self.check_all_end()
        self.check_places_are_free()
        complaints = self.check_each()
        if complaints:
            raise Failure('\n'.join(complaints))
        self.check_nothing_is_left()
        print(f'    {"slow disk, " if writes else ""}{len(self.settled)} runs so far: '
              + ', '.join(f'{count} {outcome}' for outcome, count in sorted(self.tally.items())), flush=True)

    def runs(self):
        """Every run by its number."""
        runs = {}
        for run in wait('the list of runs', PATIENCE, self.server.runs, self.guest.describe):
            number = number_of(run)
            if number in runs:
                raise Failure(f'launch {number} became two runs: {runs[number]["run_id"]}, {run["run_id"]}')
            runs[number] = run
        return runs

    def check_all_end(self):
        """Those that the cut ended end by themselves; the others can be stopped, or end as they should."""
        runs = self.runs()
        for number, accepted in self.accepted.items():
            if number not in runs or runs[number]['run_id'] != accepted['run_id']:
                raise Failure(f'launch {number} was accepted as {accepted["run_id"]}, which is not there')
        started = {int(word.split('-')[1]) for word in self.before_cut if word.startswith('start-')}

        def nothing_goes_on(numbers):
            going_on = [run for number, run in self.runs().items() if number in numbers and run['status'] != 'STOPPED']
            self.going_on = going_on
            return not going_on

        wait('each run that had started before the cut has ended', PATIENCE, lambda: nothing_goes_on(started),
             self.describe_going_on)
        for number, run in sorted(self.runs().items()):
            if is_long(number) and run['status'] != 'STOPPED':
                self.stop(number, run)
        wait('each run has ended', PATIENCE, lambda: nothing_goes_on(set(runs)), self.describe_going_on)

    def stop(self, number, run):
        def is_stopped():
            return self.server.stop(run) or self.server.run(run['run_id'])['status'] == 'STOPPED'
        wait(f'run {number} can be stopped', PATIENCE, is_stopped, self.guest.describe)
        self.asked.add(number)
        self.stopped.add(number)

    def describe_going_on(self):
        runs = '\n'.join(brief(self.server.run(run['run_id'])) for run in self.going_on[:3])
        return f'{len(self.going_on)} go on, such as\n{runs}\n{self.guest.describe()}'

    def check_places_are_free(self):
        """As many new runs as there are places, all at once."""
        new = {}
        for _ in range(PLACES):
            # Of the kind that ends only by a stop.
            self.next_number += (2 - self.next_number) % 3
            new[self.next_number] = self.server.launch(LONG, {'NUMBER': self.next_number})
            self.next_number += 1
        self.accepted.update(new)
        ids = {run['run_id'] for run in new.values()}

        def all_run():
            self.going_on = [run for run in self.server.runs() if run['run_id'] in ids]
            return all(run['status'] == 'RUNNING' for run in self.going_on)
        wait(f'{PLACES} new runs run at once', PATIENCE, all_run, self.describe_going_on)
        for number, run in new.items():
            self.stop(number, run)
        for run_id in ids:
            self.server.wait_for(run_id, 'STOPPED')

    def check_each(self):
        """What is wrong with runs: one text for each."""
        complaints = []
        booted_at = self.guest.booted_at()
        witness = self.guest.witness()
        for number, run in sorted(self.runs().items()):
            end = [run.get(name) for name in ('status', 'outcome', 'exit_code', 'exit_reason', 'finished_at')]
            if number in self.settled:
                if self.settled[number] != end:
                    complaints.append(f'run {number} had ended as {self.settled[number]}, and now as {end}')
                continue
            log = self.server.log(run['run_id'])
            wrong = self.judge(number, run, log, witness, booted_at)
            if wrong:
                story = json.dumps(self.server.events(run['run_id']), indent=1)
                facts = self.docker_facts(run['run_id']) if self.world == 'docker' else ''
                complaints.append(f'run {number}: {wrong}\n{brief(run)}\n{story}\nits log: {log[-1500:]!r}\n{facts}')
            self.settled[number] = end
            self.tally[run['outcome']] = self.tally.get(run['outcome'], 0) + 1
        return complaints

    def docker_facts(self, run_id):
        """What Docker showed of a run after the boot, before the server was started."""
        shown = []
        for line in self.guest.run('cat /var/tmp/docker-facts || true').splitlines():
            fact = json.loads(line) if line.startswith('{') else {}
            if fact.get('Driver') == 'bridge':
                shown.append(f"network made {fact['Created']}")
            elif run_id in fact.get('Name', '') or run_id in json.dumps(fact.get('Config', {}).get('Labels', {})):
                network = fact['NetworkSettings']
                shown.append(json.dumps({'state': fact['State'], 'sandbox': network['SandboxID'],
                                         'endpoints': [place['EndpointID'] for place in network['Networks'].values()]}))
            elif 'timeNano' in fact:
                shown.append(f"event {fact['Type']} {fact['Action']} {fact['timeNano']} {fact['Actor']['ID'][:12]}")
        return '\n'.join(shown)

    def judge(self, number, run, log, witness, booted_at):
        """What is wrong with an ended run; `None` where nothing is."""
        starts, outcome, reason = witness.count(f'start-{number}'), run['outcome'], run.get('exit_reason', '')
        if starts > 1:
            return f'it started {starts} times'
        if '\0' in log:
            return 'there are NULs in its log'
        if outcome == 'stopped' and number not in self.asked:
            return 'nobody asked it to stop'
        if outcome == 'stopped' and not reason.startswith('stopped on request'):
            return 'its reason is another than the request'
        # A stop that was under way when the power went; its reason says both.
        reason = reason.removeprefix('stopped on request; ')
        if outcome == 'lost' or (outcome == 'stopped' and reason in LOST):
            return self.judge_lost(number, run, reason, log, booted_at)
        whole = expected_log(number, MANY_LINES if is_long(number) else LINES)
        if outcome == 'stopped':
            # A shell may say what ended its command.
            said = re.sub(r'Terminated\n$', '', log)
            return None if whole.startswith(said) else 'its log is not what it wrote'
        if outcome not in ('succeeded', 'failed') or is_long(number):
            return 'it can\'t have ended like this'
        if starts != 1:
            return f'it started {starts} times'
        code = number % 7
        if run.get('exit_code') != code or (outcome == 'succeeded') != (code == 0):
            return f'its command ended with {code}'
        if code != 0 and reason != f'exited with code {code}':
            return 'its reason is another than its exit code'
        return None if log == whole else 'its log is not what it wrote'

    def judge_lost(self, number, run, reason, log, booted_at):
        if f'start-{number}' not in self.before_cut and 'started_at' in run:
            return 'it is lost, although it started after the cut'
        if reason not in LOST:
            return 'these are no true words for a run that a cut ended'
        if 'started_at' in run and seconds_of(run['finished_at']) >= booted_at:
            return f'its duration does not end before the machine booted, which was at {booted_at}'
        noted = NOTE.search(log)
        if not noted and not self.says_cut(run):
            return 'neither its log nor its story says that output may be missing'
        kept = log[:noted.start()] if noted else log
        whole = expected_log(number, MANY_LINES if is_long(number) else LINES)
        # The note begins a line of its own.
        if not whole.startswith(kept) and not whole.startswith(kept.removesuffix('\n')):
            return 'its log is not what it wrote'
        return None

    def says_cut(self, run):
        return any(event['reason'] == 'LogCut' for event in self.server.events(run['run_id'])['pod_events'])

    def check_nothing_is_left(self):
        def is_clean():
            self.left = self.guest.run(
                'find /var/lib/flotilla/runs -mindepth 1 -maxdepth 1 ! -name node'
                if self.world != 'docker' else
                "curl --silent --unix-socket /run/docker.sock 'http://docker/containers/json?all=1' | grep -o '\"Names\":[^,]*' || true")
            return not self.left.strip()
        wait('nothing is left of ended runs', PATIENCE, is_clean, lambda: f'{self.left}\n{self.guest.describe()}')
        [cluster] = [cluster for cluster in self.server.get('/api/v6/clusters')['clusters'] if cluster['is_default']]
        taken = {name: cluster[name] for name in ('queued', 'pending', 'running', 'needs_retry') if cluster[name]}
        if taken:
            raise Failure(f'places are taken, and no run is there: {taken}')
        said = self.guest.run('journalctl --boot --no-pager --output cat --unit flotilla')
        # An emulated database may take longer than a request may wait for it, which is said and hurts nobody.
        errors = [line for line in said.splitlines() if 'panicked' in line or (' ERROR ' in line and 'status=503' not in line)]
        if errors:
            raise Failure('the server reports errors:\n' + '\n'.join(errors))
        if self.world != 'postgres':
            integrity = self.guest.run("sqlite3 -readonly /var/lib/flotilla/flotilla.db 'PRAGMA integrity_check'")
            if integrity.strip() != 'ok':
                raise Failure(f'the database is damaged: {integrity}')


def brief(run):
    names = ('run_id', 'alias', 'status', 'outcome', 'exit_code', 'exit_reason', 'waiting_reason', 'queued_at', 'started_at',
             'finished_at', 'attempt_count')
    return json.dumps({name: run.get(name) for name in names}, indent=1)


def number_of(run):
    return next(int(var['value']) for var in run['env'] if var['name'] == 'NUMBER')


def seconds_of(time_text):
    return calendar.timegm(time.strptime(time_text[:19], '%Y-%m-%dT%H:%M:%S'))
