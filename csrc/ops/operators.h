// The operators as PyTorch calls them: arguments come on the stack, results go there.
#pragma once

#include "../torch_abi.h"

namespace convattn {

using Stack = StableIValue*;

void strip_means(Stack stack, uint64_t inputs, uint64_t outputs);
void global_mean(Stack stack, uint64_t inputs, uint64_t outputs);
void apply_gates(Stack stack, uint64_t inputs, uint64_t outputs);
void gate_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void map_gradient(Stack stack, uint64_t inputs, uint64_t outputs);
void coordinate_attention(Stack stack, uint64_t inputs, uint64_t outputs);

}  // namespace convattn
