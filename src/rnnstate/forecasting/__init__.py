"""From a table to a trained RUN, and from a RUN to predictions. The command line is a thin layer over this package.

| file | idea |
|---|---|
| `read_options` | how a data file is written: decimal mark, words for missing values, encoding |
| `tablefiles` | CSV and Parquet files, read and written |
| `tables` | named columns, read as numbers, times or keys |
| `times` | times as text and as numbers |
| `series` | one series for each key, and its spans without a gap |
| `examples` | split, scaling, horizon and pieces of series: the data that a network trains on |
| `ahead` | what is known about the steps after the data |
| `settings` | the arguments of a training, checked |
| `train` | the training, and the pass over all data that follows it |
| `predict` | a trained model over series, with its state carried |
| `continuation` | where each key stands, and whether other data continue from there |
| `errors_table` | the errors of the model and of persistence |
| `standing_file` | where each key stands, in one state file |
| `run_folder` | RUN: the folder that a training leaves |
| `served` | a RUN over a table: predictions, and where each key stands afterwards |
| `forecast` | the steps after the data: a network on its own predictions |
| `plot` | the plot of a forecast |
| `looked_at` | the part of the data that plots, health and report look at |
| `run_plots` | the pictures of a RUN by name |
| `report`, `report_page` | the report about a RUN, and its HTML |
| `frames` | results as frames of pandas, polars or pyarrow |
| `predictor` | `rs.load_run`: a RUN as an object that predicts |
| `scaled_model` | the network of a RUN with its scaling inside, for export |

Only `cli/` imports from this package, and `rs.load_run` is its one public name. The files import one
another in about the order of the table.
"""
