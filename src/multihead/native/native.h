// The interface of the kernels, in plain C without headers of torch or Python. `interface.py` makes ctypes structs and
// functions from this file. A library that was built from other declarations is refused; comments do not count.
// A field is declared as `type name, *name, name[3];`. A struct with a pointer to a function is for C++ alone.
#pragma once

#include <cstdint>

#define REVISION 12  // raise it where a meaning changes and no declaration does: for example the order of numbers in panels
#define EXPORT extern "C" __attribute__((visibility("default")))
#define PARTS 64  // most threads

// A matrix product, with the steps before and after it:
//   y = after(add + act(norm(x) @ weight.T + bias)), or where `inner`  y = add + after(act(norm(x) @ weight.T + bias))
// The weight is in panels of 64 outputs, which `kernels/quantization/panels.py` writes, or as the checkpoint stores it.
struct Weight {
    int32_t kind;  // 0 bfloat16, 1 int8 with a scale a row, 2 int8 in groups of 32, 3 int4 in groups of 32;
                   // as it was stored, up to three matrices stacked by outputs: 4 float32 and 5 bfloat16 of
                   // (outputs, inputs), 6 float32 and 7 bfloat16 of (inputs, outputs)
    int32_t act;   // vectors.h: Activation
    int32_t gated; // a panel holds 32 gates and 32 up values: act(gate) * up, 32 outputs a panel
    int32_t norm;  // norm of each row of x before the product: 0 none, 1 root mean square, 2 layer norm
    int32_t after; // norm of each row of the result, same values
    int32_t inner; // `after` is of the product, before the sum
    int32_t zero;  // code that stands for 0, where there are no minima
    float norm_eps, after_eps, scale;  // scale: of the product, once normed, before the sum; 0 for none
    int64_t inputs, outputs, width;  // width: outputs in memory, `outputs` or twice as many where gated
    const void *codes, *scales, *minima;  // minima: of int4's groups; for kind 1 the sum of each output's codes, float32
    const float *bias, *norm_weight, *norm_bias, *after_weight, *after_bias;  // bias: padded to whole panels
    const void* parts[3];  // of kinds 4 to 7
    int64_t counts[3];     // outputs of each
    int64_t row_stride;    // numbers from one row of a part to the next
};

// Operands of one product. Strides count numbers, not bytes; types are 0 float32, 1 bfloat16.
struct ProductCall {
    const void *x, *add;
    void* y;
    int64_t rows, x_stride, add_stride, y_stride;
    int32_t x_type, y_type;  // `add` has y's type
};

// Attention of a decode step: one query of each sequence, over the sequence's own keys and values.
// q (sequences, heads, width), k and v (rows, key heads, width or value width), out (sequences, heads, value width).
struct DecodeAttention {
    const void *q, *k, *v;
    void* out;
    const int64_t *begins, *lengths, *index;  // with an index, row r of keys and values is row index[r]
    int64_t sequences, heads, key_heads, width, value_width, q_stride, row_stride, value_stride;
    const float* bias;  // (heads, biases), added to the scores; null for none
    int64_t biases;
    float scale, softcap;  // softcap: scores are squeezed into (-softcap, softcap) before the biases; 0 for none
    const float* sinks;    // (heads,): scores of a key that is always there and has no value; null for none
    int32_t type, by_place;  // by_place: biases of the first keys; else of the last keys, that of the query's own position last
};

// Attention of a prefill in bfloat16: query i of Q queries over K keys has position K - Q + i.
// q (tokens, heads, width), k and v (rows, key heads, width or value width), out (tokens, heads, value width).
struct PrefillAttention {
    const void *q, *k, *v;
    void* out;
    const int64_t *q_begins, *q_lengths, *begins, *lengths;
    int64_t sequences, heads, key_heads, width, value_width, q_stride, row_stride, value_stride;
    int64_t window;  // a query sees keys less than so many positions away; 0 for all
    float scale, softcap;  // softcap: as in DecodeAttention
    int32_t causal;
};

// A decode step of a gated DeltaNet: one token of each sequence. States and inputs change in place.
struct DeltaStep {
    const void *mixed, *gate, *rates;  // (sequences, channels): queries, keys, values; (sequences, heads * value width);
                                       // (sequences, 2 * heads): how much is written, then the times of the decay
    void* out;                         // (sequences, heads * value width)
    void* inputs;                      // of the convolution, the last ones of each slot, (slots, kernel - 1, channels)
    float* states;                     // (slots, heads, key width, value width)
    const int64_t* slots;              // of each sequence; null for 0, 1, ...
    const float *taps, *decay, *step, *norm;  // (kernel, channels); (heads,), below 0; (heads,); (value width,)
    int64_t mixed_stride, gate_stride, rates_stride;
    int64_t sequences, heads, key_heads, key_width, value_width, kernel, channels;
    float norm_eps, strength;          // strength: of what is written
    int32_t type, act, gate_act;       // vectors.h: Activation, after the convolution and of the gate
};

// Routed experts in place of a feed-forward, beside a shared one or alone: what a row gives is the weighted sum of `chosen` of
// `count` experts, whose weights are alike but for their numbers.
struct ExpertsStep {
    const Weight *router, *into, *down;  // router: of scores (rows, count); into and down: (count,), one after the other
    const Weight *shared_into, *shared_down, *share;  // of the shared expert; share: of its gate, one output; null without
    const float *norm_weight, *norm_bias, *after_weight, *after_bias;  // norms of what is read, and after the step
    const float* correction;             // (count,), added to what is ranked; null for none
    int64_t count, chosen, groups, kept, best;  // the `kept` groups, by the sum of their `best` highest ranks, give experts
    float norm_eps, after_eps, scale;    // scale: of what is added to the residual; 0 for none
    float softcap, lowest;               // softcap: of scores, 0 for none; lowest: rank of experts outside of the groups
    float power, added, floor, factor;   // weights are divided by max(floor, added + norm of this power), then scaled
    float alpha, limit, shared_factor;   // alpha, limit: of GPT-OSS's gate; shared_factor: of the sum with the shared expert
    int32_t norm, after, inner;          // as in Weight
    int32_t score, raw, normalized;      // experts.h: Score; raw: scores are ranked themselves; normalized: weights are divided
    int32_t wide, packed, joined;        // float32 scores; results are summed in float32; the residual is added with them
    int32_t clamp;                       // GPT-OSS's gate, of gates and ups: 1 in turns, 2 gates first; 0 for none
};

// One layer: its weights, and where its keys and values are. With `delta` it is a gated DeltaNet in place of attention: `qkv`
// gives `mixed` and `gate`, and `rates` the rates.
struct LayerCall {
    const Weight *qkv, *out, *query, *cross, *into, *down;  // query and cross: null without cross-attention
    void *k, *v;                        // KV cache of this layer, (rows, key heads, width); null without a cache
    const void *source_k, *source_v;
    const int64_t *writes;              // cache rows of the new tokens; null for 0, 1, ...
    const int64_t *begins, *lengths, *index, *source_begins, *source_lengths;
    const float *cosines, *sines;       // (tokens, rotated / 2), null without rotary positions
    const float *q_norm, *k_norm, *q_norm_bias, *k_norm_bias;  // of queries and keys, null without
    const float* bias;                  // as in DecodeAttention
    int64_t biases, by_place;
    int64_t heads, key_heads, width, rotated, source_stride;
    int64_t window;                     // as in PrefillAttention
    int64_t norm_kind, norm_span;       // kind as in NormCall; 0 one weight for all heads, 1 a weight a head, 2 a norm over all heads
    int64_t norm_last, parallel;        // norms of queries and keys after their rotation; feed-forward beside attention
    float scale, softcap, cross_scale, cross_softcap, norm_eps, clip;  // clip: bound of queries, keys and values; 0 for none
    const DeltaStep* delta;             // null for attention
    const Weight* rates;
    const ExpertsStep* experts;         // in place of `into` and `down`, which are null then
    const float* sinks;                 // as in DecodeAttention
    int64_t gated;                      // each head's query is followed by the gates of its output, before a sigmoid
};

// A forward pass of a stack of layers over packed sequences.
struct StackCall {
    const LayerCall* steps;
    void *x, *workspace;  // x (tokens, states): embeddings, then the last layer's hidden states; workspace: see `steps.h`
    const int64_t *q_begins, *q_lengths;  // null in a decode step: one token of each sequence
    int64_t layers, sequences, tokens, states;
    int32_t type, causal;
};

// Cache rows of layers with one window, a number for each sequence: the row of the next key, the first row that a query
// sees, and how many it sees.
struct CacheWindow {
    int64_t *writes, *begins, *lengths;
    const int64_t* copies;   // rows to copy first: from, to, how many
    int64_t copied, window;  // window: 0 for all
};

// Cosines and sines of all positions, (positions, half), and of the sequences' own positions, (sequences, half).
struct RotaryAngles {
    const float *cosines, *sines;
    float *here_cosines, *here_sines;
    int64_t half;
};

// Greedy decode steps: each reads one token of each sequence, the likeliest after the step before.
struct DecodeLoop {
    StackCall stack;                       // its `begins`, `cosines` ... point at `keys` and `angles`
    const CacheWindow* keys;
    const RotaryAngles* angles;
    const void *token_table, *position_table;  // (vocabulary, states); (positions, states), null without
    const float *first_weight, *first_bias, *norm_weight, *norm_bias;  // of the norms of embeddings and of hidden states
    const Weight* scorer;
    void* scores;                          // logits (sequences, scored) of the last step
    int64_t *tokens, *positions;           // (steps + 1, sequences): the tokens read, then those chosen; (sequences,)
    const int64_t* ends;                   // stop tokens: a step that chooses one of them is the last
    int64_t steps, windows, rotary_count, vocabulary, end_count;
    float scale, softcap, first_eps, norm_eps;  // scale: of embeddings; softcap: of logits, 0 for none
    int32_t first, norm, score_type;
};

// Rotary positions of queries or keys x (tokens, heads, width); y has no gaps.
struct Rotation {
    const void* x;
    void* y;
    const float *cosines, *sines;
    int64_t tokens, heads, width, rotated, stride, head_stride;
    int32_t type;
};

// A norm of rows; weight and bias have x's type, or are null.
struct NormCall {
    const void *x, *weight, *bias;
    void* y;
    int64_t rows, width, stride;
    int32_t kind, type;  // 1 root mean square, 2 layer norm
    float eps, centre;   // centre: added to the weight
};

// The highest scores of each row, best first, without banned columns. Where too few are left: minus infinity.
struct TopK {
    const void* scores;     // (rows, width)
    const int64_t* banned;  // columns
    float* values;          // (rows, count): scores, or log-probabilities where `log_probs`, banned ones counted
    int64_t* columns;       // (rows, count)
    int64_t rows, width, stride, count, bans;
    int32_t type, log_probs;
};

// Dropout of `count` numbers: those that are not set to zero are scaled.
struct DropoutCall {
    const void* x;
    void* y;
    int64_t count;
    uint64_t seed;
    uint32_t threshold;  // the probability of zero, times 2^32
    float scale;
    int32_t type;
};

// One step of Adam on some rows of a table and its moments, (..., width) each; the gradient has these rows alone.
struct AdamRows {
    float *table, *first, *second;
    const float* gradient;
    const int64_t* rows;
    int64_t count, width;
    float rate, root, beta1, beta2, eps;  // rate: over the first moments' correction; root: 1 / the root of the second moments' correction
};

// A short convolution of each channel in a decode step: one token of each sequence. `inputs` change in place.
struct Convolution {
    void* inputs;              // the last ones of each slot, (slots, kernel - 1, channels)
    const int64_t* slots;      // of each sequence; null for 0, 1, ...
    const float *taps, *bias;  // (kernel, channels), the newest last; (channels,) or null
    int64_t sequences, channels, kernel;
    int32_t type, unused;
};

// out = after * convolution(before * x) of rows (before, after, x), each as wide as there are channels.
struct ConvolutionStep {
    Convolution convolution;
    const void* x;
    void* out;       // (sequences, channels)
    int64_t stride;  // of x's rows
};

// A decode step of Mamba 2 between its two projections. `states` change in place.
struct MambaStep {
    Convolution convolution;  // of the inputs and of the vectors that write and read
    const void* x;            // rows of gates (heads * width), channels of the convolution, times (heads)
    void* out;                // (sequences, heads * width)
    float *states, *workspace;  // (slots, heads, width, count); (sequences, channels + heads * width)
    const float *rates, *skip, *step;  // (heads,) each: decay for a time of 1, below 0
    const float* norm;        // (heads * width), or null for a gate alone
    int64_t stride, heads, width, count, groups, norm_groups;  // groups: of heads that share vectors; of normed channels
    float low, high, eps;     // bounds of the times
    int32_t act, after;       // vectors.h: Activation; after: the gate multiplies what is normed
};

// Blocks of a quantized file in plain numbers.
struct DequantizeCall {
    const void* blocks;  // (count, bytes of a block)
    void* out;           // (count, weights of a block)
    int64_t count;
    int32_t number, type;  // number: of the block's type in a GGUF file; type: of `out`, 0 float32, 1 bfloat16
};

struct Team {
    void (*run)(void (*work)(void*, int), void* arg, int parts);  // `work(arg, part)` for parts 0 to parts - 1
    int parts;
    void (*soon)(const Weight*);  // the weight of the next product, which waiting threads prefetch; null without a pool
};

struct Level {
    const char* name;
    void (*product)(const Weight&, const ProductCall&, const Team&);
    void (*decode_attention)(const DecodeAttention&, const Team&);
    void (*rotate)(const Rotation&, const Team&);
    void (*norm)(const NormCall&, const Team&);
    void (*prefill_attention)(const PrefillAttention&, const Team&);
    void (*run_stack)(const StackCall&, const Team&);
    void (*top_k)(const TopK&, const Team&);
    void (*dropout)(const DropoutCall&, const Team&);
    void (*adam_rows)(const AdamRows&, const Team&);
    int64_t (*decode_loop)(const DecodeLoop&, const Team&);
    void (*delta_step)(const DeltaStep&, const Team&);
    void (*convolution_step)(const ConvolutionStep&, const Team&);
    void (*mamba_step)(const MambaStep&, const Team&);
    int (*dequantize)(const DequantizeCall&, const Team&);
};

// Functions that Python calls, defined in `entry.cpp`. `threads`: the largest number of threads.
EXPORT const char* mh_level(const char* name);
EXPORT void mh_threads(void* run_parallel, void* number, void* count);
EXPORT void mh_product(const Weight* w, const void* x, int64_t rows, int64_t x_stride, int x_type, const void* add,
                       int64_t add_stride, void* y, int64_t y_stride, int y_type, int threads);
EXPORT void mh_linear(const void* x, int64_t rows, int64_t x_stride, const void* weight, int kind, int64_t row_stride,
                      int64_t inputs, int64_t outputs, const void* bias, void* y, int threads);
EXPORT void mh_norm(const NormCall* n, int threads);
EXPORT void mh_rotate(const Rotation* t, int threads);
EXPORT void mh_decode_attention(const DecodeAttention* d, int threads);
EXPORT void mh_prefill_attention(const PrefillAttention* m, int threads);
EXPORT void mh_run_stack(const StackCall* p, int threads);
EXPORT int64_t mh_decode_loop(const DecodeLoop* w, int threads);
EXPORT void mh_top_k(const TopK* b, int threads);
EXPORT void mh_dropout(const DropoutCall* d, int threads);
EXPORT void mh_delta_step(const DeltaStep* d, int threads);
EXPORT void mh_adam_rows(const AdamRows* a, int threads);
EXPORT void mh_convolution_step(const ConvolutionStep* g, int threads);
EXPORT void mh_mamba_step(const MambaStep* m, int threads);
EXPORT int mh_dequantize(const DequantizeCall* d, int threads);
