"""What the names of the real X-rays tell: counts for the data card, written to card.json. No image is opened.

python nbs/records/data_card.py FOLDER
"""
import json, re, sys
from pathlib import Path
from cxr_nb.dataset import read_dataset

results = Path(__file__).with_name('card.json')

def main(folder):
    table = read_dataset(folder)
    table['kind'] = [re.search('bacteria|virus|$', f)[0] or 'normal' for f in table.file]
    each = table[table.split == 'train'].patient.value_counts()
    number = table.patient.str.replace('_(bacteria|virus)$', '', regex=True)
    def on_both(ids): return len(set(ids[table.split == 'train']) & set(ids[table.split == 'test']))
    def counts(column): return table.groupby(['split', column]).size().unstack(fill_value=0).to_dict('index')
    card = dict(data=table.attrs['name'], files=counts('label'), kinds=counts('kind'),
                patients=table.groupby('split').patient.nunique().to_dict(),
                train_patients_with_several=int((each > 1).sum()), most_files_of_a_patient=int(each.max()),
                patients_in_train_and_test=on_both(table.patient), numbers_in_train_and_test=on_both(number))
    results.write_text(json.dumps(card, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main(sys.argv[1])
