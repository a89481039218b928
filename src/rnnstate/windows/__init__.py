"""From your data to batches of windows.

The files follow the way of the data. Reading: `inputs`, `forms`, `frames`, `arrays`, `targets`. Planning: `plan`, `cuts`,
`orders`, `varied_lengths`, `epochs`. Annotating: `facts`, `gaps`, `observed`, `lead_in`. Batches: `windows`, `dataset`.
After the model: `outputs` puts predictions together again. `own_dataset` accepts batches that you make yourself.
"""
