"""What each kind of layer remembers, and how to run the layer with that memory as an argument.

| file | idea |
|---|---|
| `protocol` | `Port`: which leaves a layer has, their initial values, and the call |
| `registry` | `register_port` and `find_port`: which port runs which class of layers |
| `recurrent` | the ports of LSTM, GRU, SimpleRNN, ConvLSTM, stacks and custom cells, forward and backward |
| `bidirectional` | the port of `Bidirectional` |
| `convolution` | the ports of causal convolutions |
| `pooling`, `delay` | the ports of pools and delays after zeros on the left |
| `running_sum` | the port of cumulative sums over time |
| `position` | the port of layers that need the position of each step |
| `attention` | the port of causal self-attention |
| `linear_recurrence` | the port of `MinGRU`, `MinLSTM` and `LRU` |
| `fresh` | the port of a layer that starts fresh in each window |
| `fast_path` | decides whether a layer runs in a fast loop from `kernels/` |
| `scan` | the explicit loop over steps, for cells without a fast loop |

To add a port for another family of Keras layers, write one file here and add one line to the table in `registry`.
Other packages may import the public names of every file.
"""
