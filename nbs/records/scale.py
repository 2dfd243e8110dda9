"""One network on two processes, answers from clusters, and the growth of it, recorded in nbs/scale.json (phantoms, one thread per process).

python nbs/records/scale.py             everything below
python nbs/records/scale.py processes   three seeds alone and on two gloo processes of torchrun; a killed one goes on; accelerate starts one and is refused
python nbs/records/scale.py clusters    Dask and Ray, each of two local processes: the rows of one process, also when a worker is killed meanwhile
python nbs/records/scale.py slurm       the same in a Slurm queue, by dask-jobqueue; two jobs, one of them cancelled meanwhile. Only when asked for
python nbs/records/scale.py growth      films a second with 1 and 2 workers, memory with 1,000 and 10,000 films, where the time goes; wants a quiet machine
"""
import json, os, shutil, signal, subprocess, sys, tempfile, threading, time
from pathlib import Path

results = Path(__file__).parents[2]/'nbs'/'scale.json'
os.environ |= {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', 'PYTHONWARNINGS': 'ignore', 'TQDM_DISABLE': '1', 'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0'}
scripts = Path(sys.executable).parent

def few(tmp, n):
    from cxr_nb.all import phantom_data, sample_patients
    return sample_patients(phantom_data(), tmp/f'films{n}', n)

def typed(*words, group=False):
    "A command in a process of its own"
    return subprocess.Popen(list(map(str, words)), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=group)

def done(p):
    "What a command that must end well has said"
    err = p.communicate(timeout=1800)[1]
    if p.returncode: sys.exit(err)
    return err

TWO = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--no-python']

def processes(tmp):
    from cxr_nb.all import phantom_data
    films, rows = phantom_data(), []
    for seed in (42, 43, 44):
        for n, launcher in ((1, []), (2, TWO)):
            out = tmp/f'{seed}-{n}'
            done(typed(*launcher, scripts/'cxr_train', films, '--processes', n, '--size', 64, '--epochs', 8, '--bs', 32, '--seed', seed, '--sensitivity', .9, '--out', out))
            r = json.loads((out/'metrics.json').read_text())
            test = r['report']['metrics']['test']['at the operating point']
            rows.append(dict(seed=seed, processes=n, auroc=test['AUROC']['value'], log_loss=test['log loss']['value'],
                             best_valid_loss=min(float(l.split(',')[2]) for l in (out/'history.csv').read_text().splitlines()[1:]),
                             seconds=r['seconds'], seconds_per_epoch=r['seconds_per_epoch'],
                             answered={s: r['data'][s] for s in ('valid', 'test')}))
            print(rows[-1], flush=True)
    out = tmp/'killed'
    words = [*TWO, scripts/'cxr_train', films, '--processes', 2, '--size', 64, '--seed', 42, '--sensitivity', .9, '--out', out]
    p = typed(*words, group=True)
    while not (out/'state.safetensors').exists(): time.sleep(.05)
    os.killpg(p.pid, signal.SIGKILL)
    subprocess.run(['pkill', '-9', '-f', str(out)]) # the workers have groups of their own
    p.communicate()
    done(typed(*words))
    went_on = json.loads((out/'metrics.json').read_text())
    misread = subprocess.run([scripts/'accelerate', 'launch', '--cpu', '--num_processes', '2', '--no_python', scripts/'cxr_train', films,
                              '--processes', '2', '--out', tmp/'one'], text=True, capture_output=True)
    refused = [l for l in misread.stderr.splitlines() if l.startswith('cxr_train:')]
    return dict(films=films_of(films), runs=rows, resumed=went_on['resumed'], killed_auroc=went_on['report']['metrics']['test']['at the operating point']['AUROC']['value'],
                accelerate_with_one=dict(status=misread.returncode, said=refused, folder=(tmp/'one').exists()))

def films_of(folder):
    from cxr_nb.all import find_films
    return {s: len(find_films(folder, s)) for s in ('train', 'test')}

def trained(tmp):
    "A quick run, and the films of its test"
    from cxr_nb.all import Recipe, find_films, train_run
    films = few(tmp, 100)
    return train_run(films, Recipe('quick', size=64, epochs=2), tmp/'run', sensitivity=.9), find_films(films, 'test')

def kill_one(parts, name):
    "When the first shard is there, kill the youngest worker of a cluster"
    import psutil
    while not list(parts.glob('*.csv')): time.sleep(.01)
    found = [p for p in psutil.process_iter(['cmdline', 'create_time']) if name(' '.join(p.info['cmdline'] or []))]
    max(found, key=lambda p: p.info['create_time']).kill()

def clusters(tmp):
    import numpy as np, torch
    from contextlib import contextmanager
    from cxr_nb.all import load_classifier, predict_folder, workers
    torch.set_num_threads(1)
    run, films = trained(tmp)
    clf = load_classifier(run)
    one = clf.decide(clf.answers(films))

    @contextmanager
    def dask():
        from dask.distributed import LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c: yield c.scheduler_address.replace('tcp', 'dask')
    @contextmanager
    def ray():
        import ray
        os.environ['RAY_ADDRESS'] = ''
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try: yield 'ray://auto'
        finally: ray.shutdown()

    rows = []
    for kind, start, name in (('Dask', dask, lambda c: 'spawn_main' in c), ('Ray', ray, lambda c: 'ray::PoolActor' in c)):
        with start() as address:
            for killed in (False, True):
                out = tmp/f'{kind}-{killed}.csv'
                if killed:
                    killer = threading.Thread(target=kill_one, args=[Path(f'{out}.shards'), name])
                    killer.start()
                with workers(cluster=address): table = predict_folder(run, films, out, size=16)
                if killed: killer.join()
                logits = [c for c in one if c.startswith('logit_')]
                rows.append(dict(cluster=kind, films=len(films), killed_worker=killed, calls_equal=table.call.tolist() == one.call.tolist(),
                                 files_equal=table.file.tolist() == one.file.tolist(),
                                 largest_difference=float(np.nanmax(np.abs(table[logits].values - one[logits].values)))))
                print(rows[-1], flush=True)
    return rows

def slurm(tmp):
    import numpy as np, torch
    from dask.distributed import Client
    from dask_jobqueue import SLURMCluster
    from cxr_nb.all import load_classifier, predict_folder, workers
    torch.set_num_threads(1)
    run, films = trained(tmp)
    one, queued = load_classifier(run).predict(films), lambda: subprocess.run(['squeue', '-h', '-o', '%i'], capture_output=True, text=True).stdout.split()
    queue = SLURMCluster(cores=1, processes=1, memory='3GB', walltime='00:10:00', interface='lo')
    queue.scale(jobs=2)
    rows, jobs = [], []
    for cancelled in (False, True):
        out = tmp/f'slurm-{cancelled}.csv'
        def cancel():
            while not list(Path(f'{out}.shards').glob('*.csv')): time.sleep(.01)
            subprocess.run(['scancel', jobs[0]], check=True)
        with workers(cluster=queue.scheduler_address.replace('tcp', 'dask')):
            if not jobs:
                Client(queue.scheduler_address).wait_for_workers(2, timeout=90)
                jobs = queued()
            killer = threading.Thread(target=cancel if cancelled else lambda: None)
            killer.start()
            table = predict_folder(run, films, out, size=8)
        killer.join()
        rows.append(dict(jobs=len(jobs), cancelled=cancelled, films=len(films), calls_equal=table.call.tolist() == one.call.tolist(),
                         largest_difference=float(np.nanmax(np.abs(table.probability.values - one.probability.values)))))
        print(rows[-1], flush=True)
    queue.close()
    version = subprocess.run(['sinfo', '--version'], capture_output=True, text=True).stdout.strip()
    return dict(version=version, rows=rows)

def growth(tmp):
    import psutil, torch
    from cxr_nb.all import load_classifier, predict_folder, read_xrays, workers
    torch.set_num_threads(1)
    run, films = trained(tmp)
    many = tmp/'many'
    many.mkdir()
    names = []
    for i in range(10_000): # the films again and again; each a file of its own for whoever reads it
        names.append(many/f'{i:05d}{films[i % len(films)].suffix}')
        os.link(films[i % len(films)], names[-1])

    def watched(n, k):
        "Films a second, and the most memory of the first process and of its workers, MB"
        most, over, me = [0, 0], threading.Event(), psutil.Process()
        def watch():
            while not over.wait(.1):
                most[0] = max(most[0], me.memory_info().rss)
                for p in me.children(recursive=True):
                    try: most[1] = max(most[1], p.memory_info().rss)
                    except psutil.NoSuchProcess: pass
        t = threading.Thread(target=watch)
        t.start()
        start = time.time()
        with workers(n): predict_folder(run, names[:k], tmp/'answers.csv')
        seconds = time.time() - start
        over.set(); t.join()
        row = dict(workers=n, films=k, seconds=round(seconds, 2), films_per_second=round(k/seconds, 1), first_process_mb=round(most[0]/1e6), worker_mb=round(most[1]/1e6))
        print(row, flush=True)
        return row

    with workers(2): predict_folder(run, names[:600], tmp/'warm.csv') # starts the workers, which stay
    rows = [watched(n, k) for k in (1000, 10_000) for n in (1, 2)] + [watched(n, 1000) for n in (2, 1)]
    clf, parts = load_classifier(run), dict(reading=0., network=0., guard=0., writing=0.)
    for i in range(0, 1024, 64):
        t0 = time.time(); squares = read_xrays(names[i:i+64], clf.size)
        t1 = time.time(); logits = clf.logits(squares)
        t2 = time.time(); clf.guard.score(squares)
        t3 = time.time(); clf.decide(clf.answers(names[:1]).head(0)).to_csv(tmp/'x.csv')
        for k, v in zip(parts, (t1 - t0, t2 - t1, t3 - t2, 0)): parts[k] += v
    table = predict_folder(run, names[:1024], tmp/'x.csv')
    t = time.time(); table.to_csv(tmp/'y.csv', index=False); parts['writing'] = time.time() - t
    record = json.loads((run/'metrics.json').read_text())
    return dict(arch=record['recipe']['arch'], size=record['recipe']['size'], rows=rows, milliseconds_per_film={k: round(v*1000/1024, 3) for k, v in parts.items()})

def record(part, value):
    from cxr_nb.all import environment
    old = json.loads(results.read_text()) if results.exists() else {}
    results.write_text(json.dumps({**old, part: value, **environment()}, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    for part in sys.argv[1:] or ['processes', 'clusters', 'growth']:
        tmp = Path(tempfile.mkdtemp())
        try: record(part, globals()[part](tmp))
        finally: shutil.rmtree(tmp, ignore_errors=True)
