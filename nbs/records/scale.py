"""One network on two processes, answers from clusters, and the growth of it: scale.json, which lesson 21 reads.

python nbs/records/scale.py processes  three seeds alone and on two processes of torchrun; a training that is killed
                                       and resumed; accelerate, which starts one process of two
python nbs/records/scale.py dask       a Dask cluster of two local processes, also when one is killed meanwhile
python nbs/records/scale.py ray        the same with Ray
python nbs/records/scale.py slurm      the same in a Slurm queue of this machine: two jobs, also when one is cancelled
python nbs/records/scale.py growth     X-rays a second with 1 and 2 workers, memory with 1,000 and 10,000 X-rays,
                                       and where the time goes; wants a quiet machine

On phantoms, with one thread per process. Needs: pip install -e '.[dask,ray]'
"""
import json, os, subprocess, sys, tempfile, threading, time
from contextlib import contextmanager
from pathlib import Path

os.environ |= dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONWARNINGS='ignore', TQDM_DISABLE='1',
                   RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO='0')
import numpy as np
import pandas as pd
import psutil
import torch
from cxr_nb.classifier import load_classifier
from cxr_nb.dataset import phantom_data, read_dataset, sample_patients
from cxr_nb.film import read_xrays
from cxr_nb.recipe import Recipe
from cxr_nb.report import read_record
from cxr_nb.run import environment, train_run
from cxr_nb.scale import predict_folder, workers

results = Path(__file__).with_name('scale.json')
scripts = Path(sys.executable).parent
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--no-python']
SEEDS = 42, 43, 44

# One network on two processes

def train_words(out, n, seed=42):
    "The command of a training on n processes"
    launcher = TORCHRUN if n > 1 else []
    settings = f'--processes {n} --size 64 --bs 32 --seed {seed} --sensitivity .9'.split()
    return [*launcher, scripts/'cxr_train', phantom_data(), *settings, '--out', out]

def run_words(words):
    "Run a command that must end well"
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode: sys.exit(done.stderr)

def trained_row(tmp, seed, n):
    "How well a seed on n processes ranks"
    out = tmp/f'{seed}-{n}'
    run_words(train_words(out, n, seed))
    metrics = read_record(out)['report']['metrics']['test']['at 0.5']
    losses = pd.read_csv(out/'history.csv').valid_loss
    row = dict(seed=seed, processes=n, auroc=metrics['AUROC']['value'], best_valid_loss=round(float(losses.min()), 5))
    print(row, flush=True)
    return row

def killed_and_resumed(tmp):
    "From which batch a training on two processes went on after all of it was killed"
    out = tmp/'killed'
    words = train_words(out, 2)
    training = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out/'state.safetensors').exists(): time.sleep(.05)
    for process in (*training.children(recursive=True), training): process.kill()
    training.wait()
    run_words(words)
    return read_record(out)['resumed']

def misled(tmp):
    "What becomes of a launcher that starts one process of two"
    out = tmp/'one'
    launcher = [scripts/'accelerate', 'launch', '--cpu', '--num_processes', '2', '--no_python']
    done = subprocess.run([*launcher, *train_words(out, 2)[len(TORCHRUN):]], capture_output=True)
    return dict(status=done.returncode, folder=out.exists())

def processes(tmp):
    runs = [trained_row(tmp, seed, n) for seed in SEEDS for n in (1, 2)]
    return dict(runs=runs, resumed=killed_and_resumed(tmp), accelerate_with_one=misled(tmp))

# Clusters

def quick_run(tmp):
    "A run without training, and the X-rays of its test"
    table = sample_patients(read_dataset(phantom_data()), 100)
    run = train_run(table, Recipe('quick', size=64, epochs=0), tmp/'run', sensitivity=.9)
    return run, table.path[table.split == 'test'].tolist()

def kill_child(word):
    "Kill the youngest process below this one whose command holds a word"
    found = [p for p in psutil.Process().children(recursive=True) if word in ' '.join(p.cmdline())]
    max(found, key=psutil.Process.create_time).kill()

def asked(kind, address, run, xrays, out, kill=None):
    "The answers of a cluster beside those of this process; `kill` is called when the first shard is there"
    def interfere():
        while not list(Path(f'{out}.shards').glob('*.csv')): time.sleep(.01)
        kill()
    killer = threading.Thread(target=interfere if kill else print)
    killer.start()
    with workers(cluster=address): table = predict_folder(run, xrays, out, size=16)
    killer.join()
    clf = load_classifier(run)
    alone = clf.decide(clf.answers(xrays))
    logits = [c for c in alone if c.startswith('logit_')]
    apart = np.abs(table[logits].to_numpy() - alone[logits].to_numpy())
    row = dict(cluster=kind, films=len(table), killed_worker=bool(kill),
               calls_equal=table.call.tolist() == alone.call.tolist(), largest_difference=float(apart.max()))
    print(row, flush=True)
    return row

def asked_twice(kind, address, tmp, kill):
    "Left alone, and with a worker killed"
    run, xrays = quick_run(tmp)
    alone = asked(kind, address, run, xrays, tmp/'answers.csv')
    return [alone, asked(kind, address, run, xrays, tmp/'killed.csv', kill)]

def dask(tmp):
    from dask.distributed import LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two:
        address = two.scheduler_address.replace('tcp', 'dask')
        return asked_twice('Dask', address, tmp, lambda: kill_child('spawn_main'))

def ray(tmp):
    import ray
    os.environ['RAY_ADDRESS'] = ''
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try: return asked_twice('Ray', 'ray://auto', tmp, lambda: kill_child('ray::PoolActor'))
    finally: ray.shutdown()

def slurm(tmp):
    from dask.distributed import Client
    from dask_jobqueue import SLURMCluster
    version = subprocess.run(['sinfo', '--version'], capture_output=True, text=True).stdout.strip()
    with SLURMCluster(cores=1, processes=1, memory='3GB', walltime='00:10:00', interface='lo') as queue:
        queue.scale(jobs=2)
        Client(queue.scheduler_address).wait_for_workers(2, timeout=90)
        job = subprocess.run(['squeue', '-h', '-o', '%i'], capture_output=True, text=True).stdout.split()[0]
        address = queue.scheduler_address.replace('tcp', 'dask')
        return asked_twice(version, address, tmp, lambda: subprocess.run(['scancel', job], check=True))

# Growth

@contextmanager
def watched():
    "The most memory of the first process and of its workers meanwhile, MB"
    most = dict(first_process_mb=0, worker_mb=0)
    over = threading.Event()
    first = psutil.Process()
    def note(key, process):
        try: most[key] = max(most[key], round(process.memory_info().rss/1e6))
        except psutil.NoSuchProcess: pass
    def watch():
        while not over.wait(.1):
            note('first_process_mb', first)
            for p in first.children(recursive=True): note('worker_mb', p)
    thread = threading.Thread(target=watch)
    thread.start()
    try: yield most
    finally:
        over.set()
        thread.join()

def timed_row(run, xrays, n, tmp):
    "X-rays a second, and memory"
    start = time.time()
    with watched() as most, workers(n), tempfile.TemporaryDirectory(dir=tmp) as folder:
        predict_folder(run, xrays, Path(folder)/'answers.csv')
    row = dict(workers=n, films=len(xrays), films_per_second=round(len(xrays)/(time.time() - start), 1), **most)
    print(row, flush=True)
    return row

def milliseconds(run, xrays, tmp):
    "Where the time of an X-ray goes"
    clf = load_classifier(run)
    seconds = dict.fromkeys(('reading', 'network', 'input check', 'writing'), 0.)
    for i in range(0, len(xrays), 64):
        marks = [time.time()]
        squares = read_xrays(xrays[i:i+64], clf.size)
        marks.append(time.time())
        logits, features = clf.ask(squares)
        marks.append(time.time())
        clf.input_check.score(features)
        marks.append(time.time())
        pd.DataFrame(logits, xrays[i:i+64]).to_csv(tmp/'rows.csv')
        marks.append(time.time())
        for part, took in zip(seconds, np.diff(marks)): seconds[part] += took
    return {part: round(1000*float(took)/len(xrays), 3) for part, took in seconds.items()}

def growth(tmp):
    run, xrays = quick_run(tmp)
    many = tmp/'many'
    many.mkdir()
    links = [many/f'{i:05d}{xrays[i % len(xrays)].suffix}' for i in range(10_000)]
    for i, link in enumerate(links): os.link(xrays[i % len(xrays)], link) # the same again, each a file of its own
    with workers(2): predict_folder(run, links[:600], tmp/'warm.csv') # starts the workers, which stay
    rows = [timed_row(run, links[:k], n, tmp) for k in (1000, 10_000) for n in (1, 2)]
    rows += [timed_row(run, links[:1000], n, tmp) for n in (2, 1)]
    recipe = read_record(run)['recipe']
    parts = milliseconds(run, links[:1024], tmp)
    return dict(arch=recipe['arch'], size=recipe['size'], rows=rows, milliseconds_per_film=parts)

PARTS = dict(processes=processes, dask=dask, ray=ray, slurm=slurm, growth=growth)

def main(name):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp: value = PARTS[name](Path(tmp))
    old = json.loads(results.read_text(encoding='utf-8')) if results.is_file() else {}
    where = {**old.get('environments', {}), name: environment()}
    results.write_text(json.dumps({**old, name: value, 'environments': where}, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS: sys.exit(__doc__)
    main(sys.argv[1])
