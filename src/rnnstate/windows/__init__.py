"""From your data to batches of windows, and from outputs back to sequences.

The files follow the data:

| file | what it does |
|---|---|
| `windows` | `Windows`, the dataset: calls the files below in this order |
| `planned` | the members that windows of arrays and of a source have in common |
| `inputs` | reads all that the user gave, once, into `Sequences` |
| `frames` | turns data frames into arrays |
| `keys` | defines which rows of a table belong to which sequence |
| `times` | defines in which order times must come, and their differences |
| `gaps` | defines which differences of times are gaps, and how much of a state survives a gap |
| `sequences` | `Sequences`, the canonical form: keys, and one array per sequence and field |
| `arrays` | `Field`, one input, target or weight of all sequences: checks, pieces, batches |
| `observed` | known values from which initial states are computed |
| `horizon` | pairs each step with the target some steps later |
| `targets` | decides whether targets are per step, per window, or the last of each window |
| `per_sequence` | reads targets with one entry for each sequence |
| `cuts` | where windows begin and end in each sequence |
| `orders` | which batch and row each window goes to |
| `plan` | `WindowPlan`, the result of cuts and order: which steps each row of each batch holds |
| `varied_lengths` | plans with random window lengths (`Vary`) |
| `epochs` | the plan of each epoch, from seed and epoch alone |
| `share` | the rows of each batch that one of several processes trains on |
| `lead_in` | the steps that come before each window (burn-in, context) |
| `facts` | assembles a batch: data, and facts about its windows |
| `finite` | the check of the values of each batch |
| `outputs` | sorts predictions into one array in time order for each sequence |
| `batch` | `Batch`, the contract with `model/`, and `WindowDataset`, the protocol that models rely on |
| `dataset` | a Keras dataset that one worker loads in order |
| `own_dataset` | accepts datasets that users make, and checks their order |
| `own_outputs` | sorts the predictions for these datasets by key and time |
| `streamed` | `Windows.from_iterable`: reads a source of chunks again in each epoch |
| `chunks` | reads and checks one chunk after another |
| `chunk_gaps` | counts missing steps within and between chunks |
| `arrivals` | the order of windows that arrive, and how many steps wait for their batch |
| `held` | the steps of a sequence that are in memory at present |
| `by_time` | `split_by_time`: parts of sequences, each later than the one before |
| `scaling` | `Scaling`: columns with mean 0 and deviation 1, and back |
| `counts` | checks of whole numbers |

Other packages may import `Windows`, `Vary`, `as_windows` (`own_dataset`), `Batch` and
`WindowDataset` (`batch`), `run_lengths`
(`lead_in`), `check_count` (`counts`), and the definitions of
keys, times, gaps, parts and scaling (`keys`, `times`, `gaps`, `by_time`, `scaling`, and `wrap_frame` of `frames`).
"""
