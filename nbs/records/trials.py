"""Settings that were tried for training, judged on validation alone: patients held out of train; the official test is not even read.

python nbs/records/trials.py FOLDER                     every setting below, three seeds each, added to trials.json as each ends
python nbs/records/trials.py FOLDER --jobs 8 --limit 300  on a machine with a GPU: eight at a time, none started after 300 seconds

No lesson reads it yet: its first run, on a GPU, was cut off before it had written anything. The rule, written before the first trial: the least mean log loss (after the temperature) over three seeds wins,
and within one standard deviation of it the cheaper setting does.
"""
import argparse, json, tempfile, time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

start = time.time()
results = Path(__file__).with_name('trials.json')
OLD = dict(head='fastai', lr=3e-3, freeze_epochs=1, wd=.1) # as in version 0.1: the head starts at random, batch norm is trained
LITE2 = 'tf_efficientnet_lite2'
SETTINGS = { # from the name of a setting to what it changes in the default recipe
    '128 px, 3 epochs': {},
    '128 px, 3 epochs, rate 1e-3': dict(lr=1e-3),
    '128 px, 3 epochs, rate 2e-3': dict(lr=2e-3),
    '128 px, 3 epochs, as in 0.1': OLD,
    '128 px, 8 epochs, as in 0.1': dict(OLD, epochs=8),
    '160 px, 8 epochs, rate 2e-3': dict(size=160, epochs=8, lr=2e-3),
    '160 px, 8 epochs, as in 0.1': dict(OLD, size=160, epochs=8),
    '224 px, 5 epochs, rate 1e-3': dict(size=224, epochs=5, lr=1e-3),
    '224 px, 5 epochs, rate 2e-3': dict(size=224, epochs=5, lr=2e-3),
    '224 px, 5 epochs, as in 0.1': dict(OLD, size=224, epochs=5),
    'Lite2, 128 px, 8 epochs, rate 2e-3': dict(arch=LITE2, epochs=8, lr=2e-3),
    'Lite2, 128 px, 8 epochs, as in 0.1': dict(OLD, arch=LITE2, epochs=8),
}


def trial(folder, name, seed, threads, cpu):
    "Train one setting and judge it on its validation X-rays"
    import torch
    from fastai.vision.all import SaveModelCallback, default_device, set_seed
    from scipy.special import expit
    from sklearn.metrics import log_loss, roc_auc_score
    from cxr_nb.classifier import Classifier
    from cxr_nb.confidence import Predictions, log_odds
    from cxr_nb.dataset import read_dataset
    from cxr_nb.model import model_stats
    from cxr_nb.recipe import RECIPES
    from cxr_nb.run import environment, fit_recipe, recipe_dls, recipe_learner, recipe_split
    from cxr_nb.threshold import apply_temperature, fit_temperature
    torch.set_num_threads(threads)
    if cpu: default_device(False)
    began = time.time()
    recipe = replace(RECIPES['default'], seed=seed, **SETTINGS[name])
    table = read_dataset(folder)
    table = recipe_split(table[table.split == 'train'].reset_index(drop=True), recipe)
    set_seed(seed, reproducible=True)
    learn = recipe_learner(recipe_dls(table, recipe), recipe, tempfile.mkdtemp())
    with learn.no_logging(), learn.no_bar(): fit_recipe(learn, recipe, [SaveModelCallback(monitor='valid_loss')])
    trained = time.time()
    valid = table[table.split == 'valid']
    clf = Classifier([learn.model], recipe.arch, recipe.size, model_stats(recipe.arch), list(learn.dls.vocab),
                     sorted(set(table.label[table.positive])), recipe.head, recipe.flip_tta)
    logits = clf.answers(list(valid.path))[[f'logit_{c}' for c in clf.vocab]].to_numpy()
    preds = Predictions(expit(log_odds(logits, clf.vocab, clf.positive)), valid.positive, valid.patient, 'valid')
    calibrated = apply_temperature(preds, fit_temperature(preds))
    return dict(setting=name, seed=seed, log_loss=round(log_loss(preds.truth, calibrated.probs), 5),
                log_loss_uncalibrated=round(log_loss(preds.truth, preds.probs), 5),
                AUROC=round(roc_auc_score(preds.truth, preds.probs), 5), seconds=round(trained - began),
                X_rays=table.split.value_counts().to_dict(), changes=SETTINGS[name], **environment())

def main(folder, names, seeds, jobs, threads, limit, cpu, out):
    rows = json.loads(out.read_text(encoding='utf-8')) if out.is_file() else []
    done = {(r['setting'], r['seed']) for r in rows}
    todo = [(name, seed) for seed in seeds for name in names if (name, seed) not in done]
    with ProcessPoolExecutor(jobs, mp_context=get_context('spawn')) as pool:
        running = {}
        while todo or running:
            while todo and len(running) < jobs and time.time() - start < limit:
                name, seed = todo.pop(0)
                running[pool.submit(trial, folder, name, seed, threads, cpu)] = name, seed
            if not running: break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                name, seed = running.pop(ended)
                try: rows.append(ended.result())
                except Exception as e: print(name, seed, 'failed:', repr(e), flush=True)
                else:
                    print({k: v for k, v in rows[-1].items() if k in ('setting', 'seed', 'log_loss', 'AUROC', 'seconds')}, flush=True)
                    out.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    print(f'{len(todo)} were not started; {time.time() - start:.0f} s in all')

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('folder')
    p.add_argument('--settings', nargs='+', choices=SETTINGS, default=list(SETTINGS))
    p.add_argument('--seeds', nargs='+', type=int, default=[42, 43, 44])
    p.add_argument('--jobs', type=int, default=1)
    p.add_argument('--threads', type=int, default=2, help='of each process')
    p.add_argument('--limit', type=float, default=1e9, help='seconds after which none is started')
    p.add_argument('--cpu', action='store_true', help='leave a GPU alone')
    p.add_argument('--out', type=Path, default=results)
    a = p.parse_args()
    main(a.folder, a.settings, a.seeds, a.jobs, a.threads, a.limit, a.cpu, a.out)
