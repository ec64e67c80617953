// The interface of the kernels, in plain C: no header of torch or Python. `interface.py` makes the structs and functions
// of Python from this file, and a library is refused that was built from another text of it (comments do not count).
// A field is declared as `type name, *name, name[3];`; a struct of Python holds no pointer to a function.
#pragma once

#include <cstdint>

#define REVISION 10  // raise it where a meaning changes and no declaration does: the order of numbers in panels, say
#define EXPORT extern "C" __attribute__((visibility("default")))
#define PARTS 64  // threads at most

// A matrix product with what stands before and after it:
//   y = after(add + act(norm(x) @ weight.T + bias))
// The weight lies in panels of 64 outputs, see `kernels/quantization/panels.py`, which writes them; or as it was stored.
struct Weight {
    int32_t kind;  // 0 bfloat16, 1 int8 with a scale a row, 2 int8 in groups of 32, 3 int4 in groups of 32;
                   // as it was stored, up to three matrices one under the other: 4 float32 and 5 bfloat16 of
                   // (outputs, inputs), 6 and 7 likewise of (inputs, outputs)
    int32_t act;   // vectors.h: Activation
    int32_t gated; // a panel holds 32 gates and 32 of what they multiply: act(gate) * up, 32 outputs a panel
    int32_t norm;  // before the product: 0 none, 1 root mean square, 2 layer norm
    int32_t after; // likewise of each finished row
    int32_t zero;  // code that stands for 0, where there are no minima
    float norm_eps, after_eps;
    int64_t inputs, outputs, width;  // width: outputs in memory, `outputs` or twice as many where gated
    const void *codes, *scales, *minima;  // minima: of int4's groups; for kind 1 the sum of each output's codes, float32
    const float *bias, *norm_weight, *norm_bias, *after_weight, *after_bias;  // bias: filled up to whole panels
    const void* parts[3];  // of kinds 4 to 7
    int64_t counts[3];     // outputs of each
    int64_t apart;         // numbers from one row of theirs to the next
};

// Where one product reads and writes. Strides are numbers, not bytes; types are 0 float32, 1 bfloat16.
struct Place {
    const void *x, *add;
    void* y;
    int64_t rows, x_stride, add_stride, y_stride;
    int32_t x_type, y_type;  // `add` has y's type
};

// One query a text over the keys and values of its own rows.
struct Decode {
    const void *q, *k, *v;
    void* out;
    const int64_t *begins, *lengths, *index;  // with an index, row r of keys and values is row index[r]
    int64_t texts, heads, key_heads, width, value_width, q_stride, row_stride, value_stride;
    const float* bias;  // (heads, biases), added to the scores; null for none
    int64_t biases;
    float scale;
    int32_t type, by_place;  // by_place: biases of the first keys; else of the last ones, the query's own at the end
};

// Many queries a text, bfloat16: query i of Q over K keys stands at place K - Q + i.
struct Mix {
    const void *q, *k, *v;
    void* out;
    const int64_t *q_begins, *q_lengths, *begins, *lengths;
    int64_t texts, heads, key_heads, width, value_width, q_stride, row_stride, value_stride;
    int64_t window;  // a query sees keys less than so many places away; 0 for all
    float scale;
    int32_t causal;
};

// One layer: what it holds, and where it remembers.
struct Step {
    const Weight *qkv, *out, *query, *cross, *into, *down;  // query and cross: null without a source
    void *k, *v;                        // storage of this layer, (rows, key heads, width); null: nothing is remembered
    const void *source_k, *source_v;
    const int64_t *writes;              // rows of storage for the pass's tokens; null for 0, 1, ...
    const int64_t *begins, *lengths, *index, *source_begins, *source_lengths;
    const float *cosines, *sines;       // (tokens, rotated / 2), null where nothing is turned
    const float *q_norm, *k_norm;       // of each head, null without
    const float* bias;                  // as in Decode
    int64_t biases, by_place;
    int64_t heads, key_heads, width, rotated, source_stride;
    int64_t window;                     // as in Mix
    float scale, cross_scale, norm_eps;
};

// A pass of layers over texts laid end to end.
struct Pass {
    const Step* steps;
    void *x, *room;  // x (tokens, states): word vectors, then the last layer's states; room: see `steps.h`
    const int64_t *q_begins, *q_lengths;  // null: one token of each text
    int64_t layers, texts, tokens, states;
    int32_t type, causal;
};

// Keys of one window, a number for each text: the row that the next one is written to, and those that are seen.
struct Keys {
    int64_t *writes, *begins, *lengths;
    const int64_t* copies;   // rows to copy first: from, to, how many
    int64_t copied, window;  // window: 0 for all
};

// Cosines and sines of every place, (places, half), and those of the texts' places, (texts, half).
struct Angles {
    const float *cosines, *sines;
    float *here_cosines, *here_sines;
    int64_t half;
};

// Steps of one token of each text, each of which reads the tokens that the one before found likeliest.
struct Walk {
    Pass stack;                            // its steps point at what follows; `x` and `room` are the walk's own
    const Keys* keys;
    const Angles* angles;
    const void *words, *learned;           // (vocabulary, states), and of places; null without
    const float *first_weight, *first_bias, *norm_weight, *norm_bias;  // of the norms of word vectors and of states
    const Weight* scorer;
    void* scores;                          // (texts, scored) after the last step
    int64_t *tokens, *places;              // (steps + 1, texts): first what is read, then what was found; (texts,)
    const int64_t* ends;                   // tokens after which nothing more is read
    int64_t steps, windows, turned, vocabulary, end_count;
    float scale, first_eps, norm_eps;      // scale: of word vectors
    int32_t first, norm, score_type;
};

// Queries or keys and the angles that they are turned by; y is (tokens, heads, width) without gaps.
struct Turn {
    const void* x;
    void* y;
    const float *cosines, *sines;
    int64_t tokens, heads, width, rotated, stride, head_stride;
    int32_t type;
};

// A norm of rows; weight and bias have x's type, or are not there.
struct Norm {
    const void *x, *weight, *bias;
    void* y;
    int64_t rows, width, stride;
    int32_t kind, type;  // 1 root mean square, 2 layer norm
    float eps, centre;   // centre: added to the weight
};

// The highest scores of each row, best first, without those that are banned. Where there are too few, minus infinity.
struct Best {
    const void* scores;     // (rows, width)
    const int64_t* banned;  // columns
    float* values;          // (rows, count): scores, or log-probabilities where `normal`, banned ones counted
    int64_t* places;        // (rows, count)
    int64_t rows, width, stride, count, bans;
    int32_t type, normal;
};

// Dropout of `count` numbers: those that are kept are scaled.
struct Drop {
    const void* x;
    void* y;
    int64_t count;
    uint64_t seed;
    uint32_t threshold;  // the probability of nothing, of 2^32
    float scale;
    int32_t type;
};

// One step of Adam on some rows of a table and its moments, (..., width) each; the gradient has these rows alone.
struct Adam {
    float *table, *first, *second;
    const float* gradient;
    const int64_t* rows;
    int64_t count, width;
    float rate, root, beta1, beta2, eps;  // rate over the first moments' correction, 1 / the root of the second's
};

struct Team {
    void (*run)(void (*work)(void*, int), void* arg, int parts);  // `work(arg, part)` for parts 0 to parts - 1
    int parts;
    void (*soon)(const Weight*);  // what is read next: threads that wait fetch it; null where none would
};

struct Level {
    const char* name;
    void (*product)(const Weight&, const Place&, const Team&);
    void (*decode)(const Decode&, const Team&);
    void (*rotate)(const Turn&, const Team&);
    void (*norm)(const Norm&, const Team&);
    void (*mix)(const Mix&, const Team&);
    void (*pass)(const Pass&, const Team&);
    void (*best)(const Best&, const Team&);
    void (*drop)(const Drop&, const Team&);
    void (*adam)(const Adam&, const Team&);
    int64_t (*walk)(const Walk&, const Team&);
};

// What Python calls: see `entry.cpp`. `threads`: how many may work.
EXPORT const char* mh_level(const char* name);
EXPORT void mh_threads(void* run_parallel, void* number, void* count);
EXPORT void mh_product(const Weight* w, const void* x, int64_t rows, int64_t x_stride, int x_type, const void* add,
                       int64_t add_stride, void* y, int64_t y_stride, int y_type, int threads);
EXPORT void mh_linear(const void* x, int64_t rows, int64_t x_stride, const void* weight, int kind, int64_t apart,
                      int64_t inputs, int64_t outputs, const void* bias, void* y, int threads);
EXPORT void mh_norm(const Norm* n, int threads);
EXPORT void mh_rotate(const Turn* t, int threads);
EXPORT void mh_decode(const Decode* d, int threads);
EXPORT void mh_mix(const Mix* m, int threads);
EXPORT void mh_pass(const Pass* p, int threads);
EXPORT int64_t mh_walk(const Walk* w, int threads);
EXPORT void mh_best(const Best* b, int threads);
EXPORT void mh_drop(const Drop* d, int threads);
EXPORT void mh_adam(const Adam* a, int threads);
