"""The recorded runs: trained below runs/ (a finished run is kept), evaluated, and added to nbs/results.json.

python .ci/record.py                                    the default recipe on the phantoms, three seeds, and what each network says of sets it was not chosen on
python .ci/record.py FOLDER                             on the real films: the walkthrough's recipe with Lite-0, and three seeds each of demo, fast and best
python .ci/record.py FOLDER --recipes best --seeds 5    as much of it as is wanted; this is the way on a machine with a GPU, too, which fastai finds by itself

The phantoms' lesions were made as strong as they are while looking at the default set. So each of those networks is also read
on three other draws of patients, with their lesions and with the lesions erased: these numbers had no part in any choice.
"""
import argparse
from dataclasses import replace
from pathlib import Path
from cxr_nb.all import RECIPES, add_result, evaluate_run, load_run, phantom_data, report_run, train_run, train_seeds

root, fresh = Path(__file__).parent.parent, (11, 12, 13)
results = root/'nbs'/'results.json'

def auroc(run, lesions, seed):
    "AUROC of a run on the test of one draw"
    return round(evaluate_run(run, phantom_data(n_train=4, lesions=lesions, seed=seed)).auroc.item(), 6)

def phantom_runs():
    for folder in train_seeds(phantom_data(), replace(RECIPES['demo'], seed=0), 3, root/'runs'/'phantoms-demo'):
        run = load_run(folder)
        report_run(folder)
        add_result(folder, results, fresh_draws=fresh, auroc_fresh=[auroc(run, True, s) for s in fresh],
                   auroc_lesions_erased=[auroc(run, False, s) for s in fresh])

def walkthrough(path, out):
    "Its recipe takes hours, so one seed; and Lite-0, whose weights need no hub"
    if not (out/'metrics.json').exists(): train_run(path, replace(RECIPES['seed'], arch='tf_efficientnet_lite0'), out)
    return [out]

def real_runs(path, names, n):
    for name in names:
        out = root/'runs'/f'real-{name}'
        for folder in walkthrough(path, out) if name == 'seed' else train_seeds(path, RECIPES[name], n, out):
            report_run(folder)
            add_result(folder, results, keep=True)

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('path', nargs='?')
    p.add_argument('--recipes', nargs='+', choices=RECIPES, default=['seed', 'demo', 'fast', 'best'])
    p.add_argument('--seeds', type=int, default=3)
    a = p.parse_args()
    real_runs(a.path, a.recipes, a.seeds) if a.path else phantom_runs()
