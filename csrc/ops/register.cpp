// What ops/_library.py calls: the operators made known to PyTorch.
#include "operators.h"
#include "tensor.h"

namespace {

using namespace convattn;

void implement(const char* name, void (*kernel)(Stack, uint64_t, uint64_t)) {
    static TorchLibraryHandle library = [] {
        TorchLibraryHandle made = nullptr;
        check(aoti_torch_library_init_impl("convattn", "CPU", __FILE__, __LINE__, &made));
        return made;
    }();
    check(torch_library_impl(library, name, kernel, BUILT_FOR));
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int32_t convattn_interface() { return 6; }

__attribute__((visibility("default"))) const char* convattn_processor() { return kernels().name; }

__attribute__((visibility("default"))) int32_t convattn_register() {
    try {
        implement("coordinate_attention", coordinate_attention);
        implement("coordinate_attention_step", coordinate_attention_step);
        implement("coordinate_attention_gradients", coordinate_attention_gradients);
        implement("squeeze_excitation", squeeze_excitation);
        implement("squeeze_excitation_step", squeeze_excitation_step);
        implement("squeeze_excitation_gradients", squeeze_excitation_gradients);
        implement("efficient_channel_attention", efficient_channel_attention);
        implement("efficient_channel_attention_step", efficient_channel_attention_step);
        implement("efficient_channel_attention_gradients", efficient_channel_attention_gradients);
        implement("style_recalibration", style_recalibration);
        implement("style_recalibration_step", style_recalibration_step);
        implement("style_recalibration_gradients", style_recalibration_gradients);
        implement("cbam", cbam);
        implement("cbam_step", cbam_step);
        implement("cbam_gradients", cbam_gradients);
        implement("triplet", triplet);
        implement("triplet_step", triplet_step);
        implement("triplet_gradients", triplet_gradients);
        implement("global_context", global_context);
        implement("global_context_step", global_context_step);
        implement("global_context_gradients", global_context_gradients);
        implement("local_attention", local_attention);
        implement("local_attention_step", local_attention_step);
        implement("local_attention_gradients", local_attention_gradients);
        implement("strip_means", strip_means);
        implement("global_mean", global_mean);
        implement("apply_gates", apply_gates);
        implement("gate_gradients", gate_gradients);
        implement("map_gradient", map_gradient);
    } catch (...) {
        return 1;
    }
    return 0;
}
}
