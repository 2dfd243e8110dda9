"""The first command of the README, `cxr_train` on the phantoms, by seed and number of threads; written to first_command.json.

python nbs/records/first_command.py                      seeds 42 to 44 by 1 and 2 threads, the first with an empty cache
python nbs/records/first_command.py --seeds 42 --threads 1

The guide (00_guide) reads it. The test of the default phantoms chose nothing: the recipe comes from trials.py, on validation and on other draws.
"""
import argparse, json, os, subprocess, tempfile, time
from pathlib import Path
import pandas as pd

results = Path(__file__).with_name('first_command.json')

def trained(seed, threads, cache, out):
    "Seconds of the command, from a process of its own"
    env = os.environ | dict(OMP_NUM_THREADS=str(threads), CXR_CACHE=str(cache))
    env.pop('CXR_DATA', None)
    start = time.time()
    subprocess.run(['cxr_train', '--seed', str(seed), '--out', str(out)], env=env, check=True, capture_output=True)
    return time.time() - start

def erased(out, cache):
    "Test X-rays with pneumonia that are classified positive, and how many turn negative once their lesion is erased"
    os.environ['CXR_CACHE'] = str(cache)
    from cxr_nb.classifier import load_classifier
    from cxr_nb.dataset import phantom_data
    answers = pd.read_csv(out/'predictions.csv').query("split == 'test' and label == 'PNEUMONIA' and call == 'positive'")
    twins = load_classifier(out).predict([phantom_data(lesions=False)/f for f in answers.file])
    return len(twins), int((twins.call == 'negative').sum())

def main(seeds, threads):
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        cache = Path(tmp)/'cache'
        for seed in seeds:
            for n in threads:
                out = Path(tmp)/f'{seed}-{n}'
                empty = not cache.exists()
                seconds = trained(seed, n, cache, out)
                record = json.loads((out/'metrics.json').read_text(encoding='utf-8'))
                test = record['report']['metrics']['test']['at the operating point']
                positive, falls = erased(out, cache)
                rows.append(dict(seed=seed, threads=n, seconds=round(seconds), empty_cache=empty,
                                 **{k: test[k]['value'] for k in ('AUROC', 'sensitivity', 'specificity')},
                                 rejected=record['report']['rejected']['test'], positive=positive, falls=falls))
                print(rows[-1], flush=True)
    about = dict(versions=record['versions'], machine=record['machine'], recipe=record['recipe'])
    results.write_text(json.dumps(dict(**about, rows=rows), indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('--seeds', nargs='+', type=int, default=[42, 43, 44])
    p.add_argument('--threads', nargs='+', type=int, default=[1, 2])
    a = p.parse_args()
    main(a.seeds, a.threads)
