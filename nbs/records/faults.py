"""What happens when a run is stopped or hindered? Tries it on small runs on phantoms, one thread on the CPU, and writes nbs/records/faults.json.
Lesson 09 shows it (notebook 09_run).

python nbs/records/faults.py                 everything below but cost
python nbs/records/faults.py train           SIGKILL at ten random moments of a training; gone on with, its classifier against that of a run never stopped
python nbs/records/faults.py series          the same for a series, killed five times
python nbs/records/faults.py predict         SIGKILL at ten random moments of cxr_predict: the file of answers is absent or whole
python nbs/records/faults.py hindered        a full disk and a disk that cannot be written (both small real file systems, which root may mount), Ctrl-C twice,
                                     two processes on one output, files that are removed, cut short or of something else
python nbs/records/faults.py others          kills while copies are made and while a model is exported; a full disk for copies, answers and exports; a clock that is
                                     set back, copies of an older version, a worker that is killed, films that disappear while they are answered for
python nbs/records/faults.py cost            the default recipe on all phantoms: which share of the time goes into writing states

A training here lasts seconds, so a state is written every half second instead of every three minutes.
"""
import json, os, random, shutil, signal, subprocess, sys, tempfile, time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

results = Path(__file__).with_name('faults.json')
ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', 'PYTHONWARNINGS': 'ignore::FutureWarning', 'COLUMNS': '120'}
QUICK = ['--size', '64', '--epochs', '2', '--sensitivity', '.9']

def command(*words, **env):
    "A command of this library, in a process of its own"
    p = subprocess.Popen([sys.executable, __file__, 'as', *map(str, words)], env={**ENV, **env}, text=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    os.set_blocking(p.stderr.fileno(), True)
    return p

def run_as(*words):
    "What that process does"
    import torch
    import cxr_nb.run as run
    from cxr_nb.commands import main
    torch.set_num_threads(1)
    if 'CLOCK_BACK' in os.environ: # a day, some seconds after the start
        real, begun = time.time, time.time()
        time.time = lambda: real() - 86400*(real() > begun + float(os.environ['CLOCK_BACK']))
    run.Checkpoint = partial(run.Checkpoint, every=.5, share=1.)
    sys.argv = list(words)
    main()

def said(p, hidden):
    "Exit status, and the last line of what a command said"
    lines = [l for l in p.communicate(timeout=900)[1].splitlines() if l.strip()]
    last = lines[-1].rpartition('\r')[2] if lines else ''
    return p.returncode, last.replace(str(hidden), 'FOLDER'), '\n'.join(lines)

def until(p, *files):
    "Wait until a process that was just started has written files"
    now = time.time()
    while p.poll() is None and not all(f.exists() and f.stat().st_mtime >= now - .1 for f in files): time.sleep(.05)

def finished(*words, since=None):
    "Seconds of a command that must end well, since it wrote a file"
    p = command(*words)
    if since: until(p, since)
    start = time.time()
    status, last, all_ = said(p, '')
    if status: sys.exit(f'{words}: exit {status}\n{all_}')
    return time.time() - start

def killed(seconds, *words, since=None):
    "Start a command and kill it so long after it wrote a file; was it still running?"
    p = command(*words)
    if since: until(p, since)
    try: p.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        p.kill(); p.communicate()
        return True
    return False

def tensors(folder):
    from safetensors import safe_open
    with safe_open(Path(folder)/'classifier.safetensors', 'pt') as f: return {k: f.get_tensor(k).numpy().tobytes() for k in f.keys()}

def same(a, b):
    "Are weights, guard and answers of two runs the same to the bit, and their history but for the seconds?"
    rows = lambda d: [l.rpartition(',')[0] for l in (d/'history.csv').read_text().splitlines()] if (d/'history.csv').exists() else []
    return tensors(a) == tensors(b) and (a/'predictions.csv').read_bytes() == (b/'predictions.csv').read_bytes() and rows(a) == rows(b)

def place(folder):
    "What a killed run left"
    from safetensors import safe_open
    if not (folder/'run.json').exists(): return 'a finished run' if (folder/'metrics.json').exists() else 'nothing'
    if (folder/'predictions.csv').exists(): return 'trained, the report under way'
    if not (folder/'state.safetensors').exists(): return 'what was begun, no state yet'
    with safe_open(folder/'state.safetensors', 'pt') as f: w = json.loads(f.metadata()['state'])
    return f"fit {w['fit']}, epoch {w['epoch']}, batch {w['batch']}"

def data(tmp, n=240):
    "Phantoms in a folder of their own, which may be harmed"
    from cxr_nb.dataset import phantom_data
    folder = tmp/f'films{n}'
    if not folder.exists(): shutil.copytree(phantom_data(n_train=n, n_test=60, size=64), folder)
    return folder

def go_on(folder, *words):
    "Go on with what a kill left: by the folder alone where it says what was begun"
    if (folder/'run.json').exists(): finished('cxr_train', '--resume', folder)
    elif not (folder/'metrics.json').exists(): finished(*words, folder)

def train(tmp):
    films, r = data(tmp), random.Random(0)
    words = ['cxr_train', films, *QUICK, '--out']
    seconds, rows = finished(*words, tmp/'whole', since=tmp/'whole'/'run.json'), []
    while len(rows) < 10:
        out, at = tmp/'killed', r.uniform(0, 1)*seconds
        killed(at, *words, out, since=out/'run.json')
        left = place(out)
        if left != 'a finished run': # a kill that came too late is not counted
            go_on(out, *words)
            record = json.loads((out/'metrics.json').read_text())
            rows.append(dict(after_s=round(at, 1), left=left, resumed=record['resumed'], equal=same(tmp/'whole', out)))
            print(rows[-1], flush=True)
        shutil.rmtree(out)
    return dict(of_s=round(seconds, 1), kills=rows)

def series(tmp):
    films, r, out, rows = data(tmp), random.Random(1), tmp/'series', []
    words = ['cxr_train', films, *QUICK, '--seeds', '2', '--out']
    seconds = finished(*words, tmp/'whole', since=tmp/'whole'/'run.json')
    for i in range(5): # each time it goes on from what the last kill left
        at = r.uniform(0, .4)*seconds
        alive = killed(at, *words, out, since=out/'run.json')
        if not alive: break
        rows.append(dict(after_s=round(at, 1), left={f.name: place(f) for f in sorted(out.glob('seed-*'))}))
        print(rows[-1], flush=True)
    go_on(out, *words)
    equal = all(same(tmp/'whole'/s, out/s) for s in ('.', 'seed-42', 'seed-43'))
    return dict(of_s=round(seconds, 1), kills=rows, equal=equal)

def predict(tmp):
    films, r, rows = data(tmp), random.Random(2), []
    run, answers = tmp/'run', tmp/'answers.csv'
    finished('cxr_train', films, '--size', '64', '--epochs', '1', '--sensitivity', '.9', '--out', run)
    words = ['cxr_predict', run, films, '--out']
    seconds = finished(*words, tmp/'whole.csv')
    for i in range(10):
        answers.unlink(missing_ok=True)
        at = r.uniform(.3, 1.)*seconds
        alive, there = killed(at, *words, answers), answers.read_bytes() if answers.exists() else None
        left = 'none' if there is None else 'whole' if there == (tmp/'whole.csv').read_bytes() else 'TORN'
        rows.append(dict(after_s=round(at, 1), alive=alive, left=left))
        print(rows[-1], flush=True)
    return dict(of_s=round(seconds, 1), kills=rows, whole=all(k['left'] != 'TORN' for k in rows))

@contextmanager
def disk(folder, mb):
    "A small file system in memory; raises `PermissionError` where mounting is not allowed"
    folder.mkdir()
    if not shutil.which('mount') or subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={mb}m', 'tmpfs', folder], capture_output=True).returncode:
        raise PermissionError('no file system may be mounted here')
    try: yield folder
    finally: subprocess.run(['umount', '-l', str(folder)], check=True)

def names(out): return ', '.join(sorted(f.name for f in out.iterdir())) if out.exists() else 'no folder'

def table_of(tmp):
    "Films, the line that trains on them, a table, what adds a row to it, and what compares with a run that nothing disturbed"
    films, rows = data(tmp), []
    words = ['cxr_train', films, *QUICK, '--out']
    finished(*words, tmp/'whole')
    def row(fault, seen, left, lost):
        rows.append(dict(fault=fault, saw=seen, left=left, lost=lost))
        print(rows[-1], flush=True)
    def nothing(out): return 'nothing: the same weights to the bit' if same(tmp/'whole', out) else 'THE WEIGHTS DIFFER'
    return films, words, rows, row, nothing

def hindered(tmp):
    films, words, rows, row, nothing = table_of(tmp)
    started = lambda out: (out/'state.safetensors', out/'history.csv')

    try:
        with disk(tmp/'small', 90) as d: # room for one state beside weights and classifier, not for the next
            out = d/'run'
            status, last, lines = said(command(*words, out), d)
            if status: sys.exit(lines)
            warned = [l for l in lines.splitlines() if 'Checkpoint not saved' in l]
            row('disk full while a state is written', warned[0].partition(': ')[2].replace(str(d), 'FOLDER'), 'a finished run', nothing(out))
        with disk(tmp/'smaller', 50) as d: # room for the first state alone
            out = d/'run'
            status, last, _ = said(command(*words, out), d)
            left = names(out)
            subprocess.run(['mount', '-o', 'remount,size=200m', str(d)], check=True)
            go_on(out, *words)
            row('disk full while the best weights are written', last, left, nothing(out))
        with disk(tmp/'locked', 1) as d:
            subprocess.run(['mount', '-o', 'remount,ro', str(d)], check=True)
            status, last, _ = said(command(*words, d/'run'), d)
            row('output that cannot be written', last, names(d/'run'), 'nothing: refused before training')
    except PermissionError as e: row('disk full, or not to be written', f'not tried: {e}', '', '')

    out = tmp/'twice'; p = command(*words, out); until(p, *started(out))
    p.send_signal(signal.SIGINT); time.sleep(.2); p.send_signal(signal.SIGINT)
    status, last, _ = said(p, tmp)
    left = names(out); go_on(out, *words)
    row('Ctrl-C twice', last, left, nothing(out))

    for what, more in (('output', []), ('series', ['--seeds', 2])):
        out = tmp/what; p = command('cxr_train', films, *QUICK, '--epochs', 200, '--out', out, *more); until(p, out/'run.json')
        status, last, _ = said(command('cxr_train', films, *QUICK, '--epochs', 200, '--out', out, *more), tmp)
        row(f'two processes on one {what}', last, 'the first trains on' if p.poll() is None else 'THE FIRST ENDED', 'nothing')
        p.kill(); p.communicate()

    out = tmp/'gone'; p = command(*words, out); until(p, *started(out))
    shutil.rmtree(out, ignore_errors=True)
    status, last, _ = said(p, tmp)
    row('the output disappears during training', last, names(out), 'the run: there was no other copy')

    for split in ('train', 'test'):
        out, moved = tmp/f'moved-{split}', sorted((films/split/'NORMAL').iterdir())[0]
        p = command(*words, out); until(p, *started(out))
        shutil.move(moved, tmp/moved.name)
        status, last, _ = said(p, tmp)
        seen, left = (last if status else 'nothing'), (names(out) if status else 'a finished run')
        if status:
            status, again, _ = said(command('cxr_train', '--resume', out), tmp)
            seen += f' / then: {again}' if status else ''
        shutil.move(tmp/moved.name, moved)
        if not (out/'metrics.json').exists() or (out/'run.json').exists(): finished('cxr_train', '--resume', out)
        lost = nothing(out)
        if split == 'test' and tensors(out) == tensors(tmp/'whole'): lost = 'the answer for that X-ray, and the card says so'
        row(f'an X-ray of {split} is removed during training', seen, left, lost)

    out = tmp/'cut'; p = command(*words, out); until(p, *started(out)); p.kill(); p.communicate()
    state = out/'state.safetensors'
    os.truncate(state, state.stat().st_size//2)
    status, last, _ = said(command('cxr_train', '--resume', out), tmp)
    left = names(out); state.unlink(); finished('cxr_train', '--resume', out)
    row('the state is cut short', last, left, nothing(out) + ', after training from the start')

    out = tmp/'other'; p = command(*words, out); until(p, *started(out)); p.kill(); p.communicate()
    for fault, given in (('going on with another recipe', [*words, out, '--lr', '.01']),
                         ('going on with other X-rays', ['cxr_train', data(tmp, 230), *QUICK, '--out', out])):
        status, last, _ = said(command(*given), tmp)
        row(fault, last, names(out), 'nothing: refused before training')
    begun = json.loads((out/'run.json').read_text())
    begun['versions']['torch'] = '2.0.0'
    (out/'run.json').write_text(json.dumps(begun))
    status, last, lines = said(command('cxr_train', '--resume', out), tmp)
    row('going on with another version', [l for l in lines.splitlines() if 'a different environment' in l][0].partition(': ')[2].replace(str(tmp), 'FOLDER'),
        'a finished run', nothing(out))
    return rows

def others(tmp):
    films, words, rows, row, nothing = table_of(tmp)
    r = random.Random(3)
    empty = lambda: {'CXR_CACHE': tempfile.mkdtemp(dir=tmp)}

    torn = 0
    for i in range(5):
        out, cache = tmp/f'copying{i}', empty()
        p = command(*words, out, **cache)
        while p.poll() is None and not any(Path(cache['CXR_CACHE']).rglob('*')): time.sleep(.01)
        try: p.communicate(timeout=r.uniform(0, 1))
        except subprocess.TimeoutExpired: p.kill(); p.communicate()
        status, last, lines = said(command(*words, out, **cache), tmp)
        torn += bool(status) or not same(tmp/'whole', out)
    row('SIGKILL while copies are made, five times', 'nothing', 'what was begun', 'nothing: the same weights to the bit' if not torn else 'THE WEIGHTS DIFFER')

    out, torn, lefts = tmp/'model.onnx', 0, []
    seconds, older = finished('cxr_export', tmp/'whole', out), b'older'
    size = out.stat().st_size
    for i in range(10):
        out.write_bytes(older)
        p = command('cxr_export', tmp/'whole', out)
        try: p.communicate(timeout=r.uniform(.5, 1.02)*seconds)
        except subprocess.TimeoutExpired: p.kill(); p.communicate()
        lefts.append('the older one' if out.read_bytes() == older else 'whole' if out.stat().st_size == size else 'TORN')
    row('SIGKILL while a model is exported, ten times', 'nothing', f"{lefts.count('the older one')} times the older file, {lefts.count('whole')} times the new one"
        + ', TORN'*('TORN' in lefts), 'nothing')

    try:
        with disk(tmp/'small', 1) as d:
            out, cache = tmp/'nocopies', {'CXR_CACHE': str(d)}
            (d/'fill').write_bytes(bytes(2**20 - 3*2**16)) # a third of the copies fits
            status, last, _ = said(command(*words, out, **cache), d)
            left = names(out)
            subprocess.run(['mount', '-o', 'remount,size=50m', str(d)], check=True)
            status, _, lines = said(command(*words, out, **cache), d)
            row('disk full while copies are made', last, left, nothing(out) if not status else lines)
        with disk(tmp/'tiny', 1) as d:
            (d/'fill').write_bytes(bytes(2**20 - 8192)) # a page is left
            status, last, _ = said(command('cxr_predict', tmp/'whole', films, '--out', d/'answers.csv'), d)
            left = names(d)
            (d/'fill').unlink()
            finished('cxr_predict', tmp/'whole', films, '--out', d/'answers.csv')
            finished('cxr_predict', tmp/'whole', films, '--out', tmp/'answers.csv')
            row('disk full while answers are written', last, left, 'nothing: the same answers afterwards'
                if (d/'answers.csv').read_bytes() == (tmp/'answers.csv').read_bytes() else 'THE ANSWERS DIFFER')
        with disk(tmp/'tiny2', 1) as d:
            status, last, _ = said(command('cxr_export', tmp/'whole', d/'model.onnx'), d)
            row('disk full while a model is exported', last, names(d) or 'nothing', 'nothing')
    except PermissionError as e: row('disk full', f'not tried: {e}', '', '')

    out = tmp/'clock'
    status, last, lines = said(command(*words, out, CLOCK_BACK='6'), tmp)
    row('the clock is set back by a day during training', 'nothing' if not status else last, 'a finished run' if not status else names(out),
        nothing(out) if not status else lines)

    out, cache = tmp/'oldcache', empty()
    finished_in = said(command(*words, tmp/'first', **cache), tmp)[0]
    copies = [f for f in Path(cache['CXR_CACHE']).rglob('*') if f.is_file() and f.suffix == '.npy']
    for f in copies: f.write_bytes(f.read_bytes()[:100]) # as another version, or a crash of the disk, may have left them
    status, last, lines = said(command(*words, out, **cache), tmp)
    row(f'{len(copies)} files of copies that are cut short', 'nothing' if not status else last, 'a finished run' if not status else names(out),
        nothing(out) if not status else 'see what it said')

    answers = tmp/'killed.csv'
    p = command('cxr_predict', tmp/'whole', films, '--out', answers, '--workers', 2)
    import psutil
    victims, end = [], time.time() + 120
    while p.poll() is None and not victims and time.time() < end:
        if any(Path(f'{answers}.shards').glob('*-*')) or Path(f'{answers}.shards').exists():
            victims = [c for c in psutil.Process(p.pid).children(recursive=True) if 'LokyProcess' in ' '.join(c.cmdline())]
        time.sleep(.02)
    if victims: victims[-1].kill()
    status, last, lines = said(p, tmp)
    warned = [l.partition(': ')[2] for l in lines.splitlines() if 'A worker died' in l]
    row('a worker is killed, as when memory runs out', warned[0] if warned else last, 'whole answers' if answers.exists() else 'none',
        'nothing: the same calls' if answers.exists() and decisions(answers) == decisions(tmp/'answers.csv') else 'THE ANSWERS DIFFER')

    gone, answers = tmp/'drive', tmp/'gone.csv'
    shutil.copytree(films, gone)
    p = command('cxr_predict', tmp/'whole', gone, '--out', answers)
    until(p, Path(f'{answers}.shards'))
    time.sleep(.1)
    shutil.rmtree(gone, ignore_errors=True)
    status, last, _ = said(p, tmp)
    row('the folder of X-rays disappears while they are answered for', last, 'answers with a reason in each row' if answers.exists() else 'none', 'nothing: each such X-ray is named')
    return rows

def decisions(file):
    import pandas as pd
    return pd.read_csv(file).call.tolist()

def cost(tmp):
    words = ['cxr_train', '--out', str(tmp/'run')]
    from cxr_nb.dataset import phantom_data
    phantom_data()
    done = subprocess.run([sys.executable, '-c', f'import sys; from cxr_nb.commands import main; sys.argv = {words!r}; main()'],
                          env={**ENV, 'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '2')}, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr)
    r = json.loads((tmp/'run'/'metrics.json').read_text())
    return dict(recipe=r['recipe']['name'], seconds=r['seconds'], states=r['states'], share=round(r['states']['seconds']/r['seconds'], 4))

def record(part, value):
    from cxr_nb.run import environment
    old = json.loads(results.read_text()) if results.exists() else {}
    now = environment()
    measured = {**old.get('measured_with', {}), part: now['versions']['cxr_nb']} # each part may be of another day
    results.write_text(json.dumps({**old, part: value, 'measured_with': measured, **now}, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    if sys.argv[1:2] == ['as']: run_as(*sys.argv[2:])
    else:
        for part in sys.argv[1:] or ['train', 'series', 'predict', 'hindered', 'others']:
            tmp = Path(tempfile.mkdtemp())
            try: record(part, globals()[part](tmp))
            finally: shutil.rmtree(tmp, ignore_errors=True)
