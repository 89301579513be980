"""What clients do until the power is cut: tasks that say on the serial port that they start, launched and stopped at random."""
import itertools
import threading

from server import Unanswered

# The task that ends by itself, and the one that ends only by a stop.
SHORT, LONG = 'counted', 'endless'
# Every so many launches, one is of the task that ends only by a stop.
LONG_EVERY = 3
LINES = 20
CLIENTS = 3
# At most so many launches between two cuts, so that what waits has its turn after the cut.
LAUNCHES = 24

# Each process that a task starts takes long when it is emulated: so few sleeps, and several lines between two.
COMMON = '''
echo "start-$NUMBER" >/dev/ttyS1
i=0
line() { i=$((i + 1)); echo "run $NUMBER line $i, which is as long as many lines in the logs of real programs are"; }
lines() { line; line; line; line; sleep 0.5; }
'''
COMMANDS = {
    SHORT: COMMON + f'while [ $i -lt {LINES} ]; do lines; done\necho "end-$NUMBER" >/dev/ttyS1\nexit $((NUMBER % 7))',
    LONG: COMMON + 'while :; do lines; done',
}


def is_long(number):
    return number % LONG_EVERY == LONG_EVERY - 1


def expected_log(number, lines=LINES):
    text = 'run {} line {}, which is as long as many lines in the logs of real programs are\n'
    return ''.join(text.format(number, line) for line in range(1, lines + 1))


class Load:
    """Launches and stops, from threads of their own, until it is over."""

    def __init__(self, server, random, first_number):
        self.server, self.random = server, random
        self.numbers = itertools.count(first_number)
        self.most = first_number + LAUNCHES
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        # By number: what the server answered that it has accepted, what it was asked to stop, and answered that it stops.
        self.accepted, self.asked, self.stopped = {}, set(), set()
        self.errors = []
        self.threads = [threading.Thread(target=self.guard, args=(work,)) for work in
                        [self.launch_runs] * CLIENTS + [self.stop_runs]]
        for thread in self.threads:
            thread.start()

    def guard(self, work):
        try:
            work()
        except Exception as error:  # Told by `end`, in the thread that checks.
            self.errors.append(error)

    def pause(self, most_secs):
        with self.lock:
            secs = self.random.uniform(0, most_secs)
        return self.is_over.wait(secs)

    def launch_runs(self):
        while not self.pause(1):
            with self.lock:
                number = next(self.numbers)
            if number >= self.most:
                return
            try:
                run = self.server.launch(LONG if is_long(number) else SHORT, {'NUMBER': number})
            except Unanswered:
                # It may have been stored or not; it is not repeated.
                continue
            if run is not None:
                self.accepted[number] = run

    def stop_runs(self):
        """Half of those that need it, each at a moment of its own."""
        while not self.pause(1):
            waiting = [number for number in list(self.accepted) if number % (2 * LONG_EVERY) == LONG_EVERY - 1
                       and number not in self.stopped]
            for number in waiting:
                self.asked.add(number)
                try:
                    if self.server.stop(self.accepted[number]):
                        self.stopped.add(number)
                except Unanswered:
                    pass

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
