// One level of instructions; compiled once for each, with its flags and -DLEVEL=its name.
#include "best.h"
#include "blocks.h"
#include "delta.h"
#include "mix.h"
#include "state_space.h"
#include "steps.h"
#include "training.h"

#define NAMED_(name) level_##name
#define NAMED(name) NAMED_(name)
#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

extern const Level NAMED(LEVEL);
const Level NAMED(LEVEL) = {TEXT(LEVEL), product, decode_attention, rotate, norm, prefill_attention, run_stack, top_k, dropout, adam_rows, decode_loop, delta_step, convolution_step, mamba_step, dequantize};
