"""The recorded runs: trained below runs/ (a finished run is kept), evaluated, and added to nbs/results.json.

python .ci/record.py           the default recipe on the phantoms, three seeds, and what each network says of sets it was not chosen on
python .ci/record.py FOLDER    on the real films: the default recipe, three seeds, and the walkthrough's recipe with Lite-0

The phantoms' lesions were made as strong as they are while looking at the default set. So each of those networks is also read
on three other draws of patients, with their lesions and with the lesions erased: these numbers had no part in any choice.
"""
import sys
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

def real_runs(path):
    walkthrough = root/'runs'/'real-seed'
    if not (walkthrough/'metrics.json').exists(): train_run(path, replace(RECIPES['seed'], arch='tf_efficientnet_lite0'), walkthrough)
    for folder in [walkthrough, *train_seeds(path, RECIPES['demo'], 3, root/'runs'/'real-demo')]:
        report_run(folder)
        add_result(folder, results, keep=True)

if __name__ == '__main__': real_runs(sys.argv[1]) if sys.argv[1:] else phantom_runs()
