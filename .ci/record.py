"""The recorded runs on the phantoms: the default recipe, three seeds, and what each network says of sets it was not chosen on.

python .ci/record.py    train (below runs/, a finished run is kept), and add the records to nbs/results.json

The lesions were made as strong as they are while looking at the default set. So each network is also read on three other
draws of patients, with their lesions and with the lesions erased: these numbers had no part in any choice.
"""
from dataclasses import replace
from pathlib import Path
from cxr_nb.all import RECIPES, add_result, evaluate_run, load_run, phantom_data, train_run

root, fresh = Path(__file__).parent.parent, (11, 12, 13)

def auroc(run, lesions, seed):
    "AUROC of a run on the test of one draw"
    return round(evaluate_run(run, phantom_data(n_train=4, lesions=lesions, seed=seed)).auroc.item(), 6)

if __name__ == '__main__':
    for seed in (0, 1, 2):
        folder = root/'runs'/f'demo-{seed}'
        if not (folder/'metrics.json').exists(): train_run(phantom_data(), replace(RECIPES['demo'], seed=seed), folder)
        run = load_run(folder)
        add_result(folder, root/'nbs'/'results.json', fresh_draws=fresh, auroc_fresh=[auroc(run, True, s) for s in fresh],
                   auroc_lesions_erased=[auroc(run, False, s) for s in fresh])
