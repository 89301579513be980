"""The unit of deploy/ under systemd: runs that outlive the server, limits on control groups of version 2, an orderly end."""
import json

from server import Failure, wait

# Where the cgroup of whoever reads it is.
OWN_GROUP = '/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)'
LIMITS = f'echo "memory.max $(cat {OWN_GROUP}/memory.max)"; echo "cpu.max $(cat {OWN_GROUP}/cpu.max)"'
# Takes 200 MB, in the shell's place.
TAKE = "exec python3 -c 'b = bytearray(200 << 20); print(\"took it\")'"
LIMITED = {'memory': 64, 'cpu': 500}
LIMITS_IN_FORCE = f'memory.max {64 << 20}\ncpu.max 50000 100000\n'


class UnitChecks:
    def __init__(self, guest):
        self.guest = guest

    @property
    def server(self):
        return self.guest.server

    def checks(self):
        return [
            ('the unit of deploy/ starts, as its README says', self.install),
            ('a run goes well', self.run_one),
            ('a task is held to what the unit allows', self.refuse_system),
            ('limits of memory and CPU are in force', self.limits_are_in_force),
            ('a restart beside running runs keeps them and their limits', self.restart_beside_runs),
            ('a killed server is started again, and its runs go on', self.kill_server),
            ('after each of these, limits are in force', self.limits_are_in_force),
            ('a stop is orderly, and what runs goes on until it is stopped', self.stop_and_start),
            ('a run that the machine\'s shutdown ends says so', self.shut_down),
            ('after it, limits are in force', self.limits_are_in_force),
        ]

    def install(self):
        self.guest.up()
        self.guest.install(self.guest.program, max_running=6)
        self.expect_unit('ActiveState', 'active')
        self.expect_unit('NRestarts', '0')
        self.server.define('hello', 'echo hello; echo "start $NUMBER" >/dev/ttyS1')
        self.server.define('outside', 'for path in /etc /usr /home /root /var/lib; do ! touch "$path/x"; done')
        self.server.define('limits', LIMITS, **LIMITED)
        self.server.define('taking', TAKE, **LIMITED)
        self.server.define(
            'waiting', f'echo begun; while [ ! -e /tmp/go-$NUMBER ]; do sleep 1; done; {LIMITS}; {TAKE}', **LIMITED)
        self.server.define('endless', 'echo begun; while :; do sleep 1; done')

    def run_one(self):
        self.expect_end('hello', outcome='succeeded', exit_code=0, log='hello\n', env={'NUMBER': 0})
        if self.guest.witness() != ['start', '0']:
            raise Failure(f'the serial port says {self.guest.witness()}')

    def refuse_system(self):
        run = self.ended('outside')
        self.expect(run, outcome='succeeded')

    def limits_are_in_force(self):
        said = self.guest.run('journalctl --boot --no-pager --output cat --unit flotilla')
        if 'not limited' in said:
            raise Failure(f'the server says that it can\'t limit something:\n{said}')
        self.expect_end('limits', outcome='succeeded', log=LIMITS_IN_FORCE)
        run = self.ended('taking')
        self.expect_killed_for_memory(run, log='')

    def expect_killed_for_memory(self, run, log):
        self.expect(run, outcome='failed', exit_code=137, log=log)
        if 'out of memory' not in run.get('exit_reason', ''):
            raise Failure(f'it was killed for memory, but: {run.get("exit_reason")!r}')
        events = self.server.events(run['run_id'])
        if 'LimitNotEnforced' in json.dumps(events):
            raise Failure(f'a limit is not enforced: {json.dumps(events, indent=1)}')

    def restart_beside_runs(self):
        waiting, endless = self.start('waiting', {'NUMBER': 1}), self.start('endless')
        before = self.supervisors()
        for _ in range(2):
            self.guest.run('systemctl restart flotilla')
            self.guest.wait_until_ready()
            self.expect_unit('ActiveState', 'active')
        self.expect_same_supervisors(before)
        self.expect_end('hello', outcome='succeeded', log='hello\n', env={'NUMBER': 1})
        self.limits_are_in_force()
        self.guest.run('touch /tmp/go-1')
        run = self.server.wait_for(waiting['run_id'], 'STOPPED')
        self.expect_killed_for_memory(run, log=f'begun\n{LIMITS_IN_FORCE}')
        self.stop(endless, log='begun\n')

    def kill_server(self):
        endless = self.start('endless')
        before = self.supervisors()
        pid = self.unit('MainPID')
        self.guest.run(f'kill -9 {pid}')
        wait('systemd starts the server again', 60, lambda: self.unit('MainPID') not in ('0', pid), self.guest.describe)
        self.guest.wait_until_ready()
        self.expect_same_supervisors(before)
        self.stop(endless, log='begun\n')

    def stop_and_start(self):
        endless = self.start('endless')
        before = self.supervisors()
        self.guest.run('systemctl stop flotilla')
        self.expect_unit('ActiveState', 'inactive')
        self.expect_unit('Result', 'success')
        self.expect_unit('ExecMainStatus', '0')
        self.expect_same_supervisors(before)
        self.guest.run('systemctl start flotilla')
        self.guest.wait_until_ready()
        self.stop(endless, log='begun\n')
        wait('nothing of ended runs is left', 60, lambda: not self.supervisors(), self.guest.describe)

    def shut_down(self):
        endless = self.start('endless')
        self.guest.down()
        self.guest.up()
        self.guest.wait_until_ready()
        run = self.server.wait_for(endless['run_id'], 'STOPPED')
        if run['outcome'] not in ('lost', 'failed') or 'request' in run.get('exit_reason', ''):
            raise Failure(f'the machine was shut down while it ran, but: {run["outcome"]}, {run.get("exit_reason")!r}')
        log = self.server.log(run['run_id'])
        if not log.startswith('begun\n') or '\0' in log:
            raise Failure(f'the log of a run that the shutdown ended: {log!r}')
        print(f'    {run["outcome"]}: {run.get("exit_reason")}', flush=True)

    def start(self, alias, env=None):
        run = self.server.launch(alias, env)
        self.server.wait_for(run['run_id'], 'RUNNING')
        wait(f'{alias} writes to its log', 60, lambda: self.server.log(run['run_id']), self.guest.describe)
        return run

    def stop(self, run, log):
        if not self.server.stop(run):
            raise Failure(f'{run["run_id"]} can\'t be stopped: {json.dumps(self.server.run(run["run_id"]), indent=1)}')
        run = self.server.wait_for(run['run_id'], 'STOPPED')
        self.expect(run, outcome='stopped', log=log)

    def ended(self, alias, env=None):
        return self.server.wait_for(self.server.launch(alias, env)['run_id'], 'STOPPED')

    def expect_end(self, alias, env=None, **expected):
        self.expect(self.ended(alias, env), **expected)

    def expect(self, run, log=None, **expected):
        found = {name: run.get(name) for name in expected}
        if log is not None:
            found['log'], expected['log'] = self.server.log(run['run_id']), log
        if found != expected:
            raise Failure(f'expected {expected}\nfound    {found}\n{json.dumps(run, indent=1)}\n{self.guest.describe()}')

    def unit(self, name):
        return self.guest.run(f'systemctl show --value --property {name} flotilla').strip()

    def expect_unit(self, name, value):
        if self.unit(name) != value:
            raise Failure(f'{name} of the unit is {self.unit(name)!r}, not {value!r}\n{self.guest.describe()}')

    def supervisors(self):
        return self.guest.run("pgrep --full '^flotilla supervise'", check=False).split()

    def expect_same_supervisors(self, before):
        if not before or self.supervisors() != before:
            raise Failure(f'the processes of the runs were {before}, and are {self.supervisors()}')
