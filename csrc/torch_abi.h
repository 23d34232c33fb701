// The functions of PyTorch's stable C ABI that the operators use, declared here because torch is not
// there when the package is built. They are those of torch/csrc/inductor/aoti_torch/c/shim.h and
// torch/csrc/stable/c/shim.h, present since 2.10; one binary serves every torch that has them.
#pragma once

#include <cstdint>

using StableIValue = uint64_t;
using AOTITorchError = int32_t;  // 0 is success
struct AtenTensorOpaque;
using AtenTensorHandle = AtenTensorOpaque*;
struct TorchLibraryOpaque;
using TorchLibraryHandle = TorchLibraryOpaque*;
using ParallelFunc = void (*)(int64_t begin, int64_t end, void* context);

extern "C" {
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle tensor);
AOTITorchError aoti_torch_get_data_ptr(AtenTensorHandle tensor, void** data);
AOTITorchError aoti_torch_get_dim(AtenTensorHandle tensor, int64_t* dim);
AOTITorchError aoti_torch_get_sizes(AtenTensorHandle tensor, int64_t** sizes);
AOTITorchError aoti_torch_get_strides(AtenTensorHandle tensor, int64_t** strides);
AOTITorchError aoti_torch_get_dtype(AtenTensorHandle tensor, int32_t* dtype);
AOTITorchError aoti_torch_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides,
                                        int32_t dtype, int32_t device_type, int32_t device_index,
                                        AtenTensorHandle* tensor);
AOTITorchError aoti_torch_library_init_impl(const char* space, const char* key, const char* file,
                                            uint32_t line, TorchLibraryHandle* library);
AOTITorchError torch_library_impl(TorchLibraryHandle library, const char* name,
                                  void (*kernel)(StableIValue*, uint64_t, uint64_t),
                                  uint64_t built_for);
AOTITorchError torch_delete_stable_ivalue(StableIValue* value);
AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t grain, ParallelFunc body,
                                  void* context);
AOTITorchError torch_get_num_threads(uint32_t* threads);
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_int32();
int32_t aoti_torch_device_type_cpu();
}
