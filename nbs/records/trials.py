"""Settings that were tried for training, judged on validation alone: patients held out of train; the official test is not even read.

python nbs/records/trials.py FOLDER      every setting below, three seeds each, added to trials.json as each ends
python nbs/records/trials.py phantoms:7  the same on phantoms drawn with another seed than the default set's
python nbs/records/trials.py FOLDER --jobs 8 --limit 300  eight at a time, none started after 300 seconds

Read by lesson 09_recipe. The rule, written before the first trial: the least mean log loss (after the temperature) over three seeds
wins, and within one standard deviation of it the cheaper setting does.
"""
import argparse, json, tempfile, time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

start = time.time()
results = Path(__file__).with_name('trials.json')
START = dict(head='linear', size=128, epochs=3, freeze_epochs=0, wd=.01) # from frozen features, batch norm kept
OLD = dict(head='fastai', lr=3e-3, body_lr=.3, freeze_epochs=1, wd=.1) # as in 0.1: the head starts at random, batch norm is trained
SETTINGS = { # from the name of a setting to what it changes in the default recipe
    'head 5e-4, body 1.5e-4': dict(START, lr=5e-4, body_lr=.3),
    'head 2e-4, body 4e-4': dict(START, lr=2e-4, body_lr=2),
    'head 1e-4, body 3e-4': dict(START, lr=1e-4, body_lr=3),
    'head 1e-4, body 5e-4': dict(START, lr=1e-4, body_lr=5),
    'head 1e-4, body 1e-3': dict(START, lr=1e-4, body_lr=10),
    'head 2e-4, body 2e-3': dict(START, lr=2e-4, body_lr=10),
    'as in 0.1, 3 epochs': dict(OLD, size=128, epochs=3),
    'as in 0.1, 8 epochs': dict(OLD, size=128, epochs=8),
    'head 1e-4, body 3e-4, 8 epochs': dict(START, lr=1e-4, body_lr=3, epochs=8),
    'head 1e-4, body 3e-4, 160 px, 6 epochs': dict(START, lr=1e-4, body_lr=3, epochs=6, size=160),
}

def trial(folder, name, seed, threads, cpu):
    "Train one setting and judge it on its validation X-rays"
    import torch
    from fastai.vision.all import SaveModelCallback, default_device, set_seed
    from scipy.special import expit
    from sklearn.metrics import log_loss, roc_auc_score
    from cxr_nb.classifier import Classifier
    from cxr_nb.confidence import Predictions, log_odds
    from cxr_nb.dataset import phantom_data, read_dataset
    from cxr_nb.model import model_stats
    from cxr_nb.recipe import RECIPES
    from cxr_nb.run import environment, fit_recipe, recipe_dls, recipe_learner, recipe_split
    from cxr_nb.threshold import apply_temperature, fit_temperature
    torch.set_num_threads(threads)
    if cpu: default_device(False)
    began = time.time()
    recipe = replace(RECIPES['default'], seed=seed, **SETTINGS[name])
    kind, _, draw = folder.partition(':')
    table = read_dataset(phantom_data(seed=int(draw)) if draw else folder)
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
    return dict(data=Path(kind).name, setting=name, seed=seed, log_loss=round(log_loss(preds.truth, calibrated.probs), 5),
                log_loss_uncalibrated=round(log_loss(preds.truth, preds.probs), 5),
                AUROC=round(roc_auc_score(preds.truth, preds.probs), 5), seconds=round(trained - began),
                X_rays=table.split.value_counts().to_dict(), changes=SETTINGS[name], **environment())

def _rows(out): return json.loads(out.read_text(encoding='utf-8')) if out.is_file() else []

def main(folder, names, seeds, jobs, threads, limit, cpu, out):
    rows = _rows(out)
    data = Path(folder.partition(':')[0]).name
    done = {(r['setting'], r['seed']) for r in rows if r['data'] == data}
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
                try: row = ended.result()
                except Exception as e:
                    print(name, seed, 'failed:', repr(e), flush=True)
                    continue
                print(*(row[k] for k in ('data', 'setting', 'seed', 'log_loss', 'AUROC', 'seconds')), flush=True)
                out.write_text(json.dumps([*_rows(out), row], indent=1) + '\n', encoding='utf-8')
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
