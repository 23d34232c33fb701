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
void coordinate_attention_step(Stack stack, uint64_t inputs, uint64_t outputs);
void coordinate_attention_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void squeeze_excitation(Stack stack, uint64_t inputs, uint64_t outputs);
void squeeze_excitation_step(Stack stack, uint64_t inputs, uint64_t outputs);
void squeeze_excitation_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void efficient_channel_attention(Stack stack, uint64_t inputs, uint64_t outputs);
void efficient_channel_attention_step(Stack stack, uint64_t inputs, uint64_t outputs);
void efficient_channel_attention_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void style_recalibration(Stack stack, uint64_t inputs, uint64_t outputs);
void style_recalibration_step(Stack stack, uint64_t inputs, uint64_t outputs);
void style_recalibration_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void cbam(Stack stack, uint64_t inputs, uint64_t outputs);
void cbam_step(Stack stack, uint64_t inputs, uint64_t outputs);
void cbam_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void triplet(Stack stack, uint64_t inputs, uint64_t outputs);
void triplet_step(Stack stack, uint64_t inputs, uint64_t outputs);
void triplet_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void global_context(Stack stack, uint64_t inputs, uint64_t outputs);
void global_context_step(Stack stack, uint64_t inputs, uint64_t outputs);
void global_context_gradients(Stack stack, uint64_t inputs, uint64_t outputs);
void local_attention(Stack stack, uint64_t inputs, uint64_t outputs);
void local_attention_step(Stack stack, uint64_t inputs, uint64_t outputs);
void local_attention_gradients(Stack stack, uint64_t inputs, uint64_t outputs);

}  // namespace convattn
