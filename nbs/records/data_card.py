"""What the names of the real films tell: counts for the data card of lesson 02, written to nbs/card.json. No film is opened.

python nbs/records/data_card.py FOLDER
"""
import json, re, sys
from pathlib import Path
import pandas as pd
from cxr_nb.data import count_films, find_data, find_films, patient_id

results = Path(__file__).parents[2]/'nbs'/'card.json'

def main(path):
    "Counts of files and patients"
    films = find_films(path)
    f = pd.DataFrame(dict(split=[f.parent.parent.name for f in films], patient=[patient_id(f) for f in films],
                          kind=[re.search('bacteria|virus|$', f.name)[0] or 'normal' for f in films]))
    each = f[f.split == 'train'].patient.value_counts()
    number = f.patient.str.replace('_(bacteria|virus)$', '', regex=True)
    on_both = lambda ids: len(set(ids[f.split == 'train']) & set(ids[f.split == 'test']))
    card = dict(data=path.name, files={s: row.to_dict() for s, row in count_films(path).iterrows()},
                kinds=f.groupby(['split', 'kind']).size().unstack(fill_value=0).to_dict('index'),
                patients=f.groupby('split').patient.nunique().to_dict(),
                train_patients_with_several=int((each > 1).sum()), most_files_of_a_patient=int(each.max()),
                patients_in_train_and_test=on_both(f.patient), numbers_in_train_and_test=on_both(number))
    results.write_text(json.dumps(card, indent=1) + '\n')

if __name__ == '__main__': main(find_data(sys.argv[1]))
