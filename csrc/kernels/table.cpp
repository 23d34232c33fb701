// All kernels for one kind of processor.
#include "common.h"

#define TEXT(name) #name
#define NAME(isa) TEXT(isa)
#define TABLE(isa) kernels_##isa
#define TABLE_OF(isa) TABLE(isa)

namespace convattn {
const Kernels TABLE_OF(CONVATTN_ISA) = {
    &CONVATTN_ISA::coordinate_network,
    &CONVATTN_ISA::layers,
    &CONVATTN_ISA::extremes,
    &CONVATTN_ISA::map_terms,
    {&CONVATTN_ISA::means_full, &CONVATTN_ISA::gating_full, &CONVATTN_ISA::statistics_full,
     &CONVATTN_ISA::gradients_full},
    {&CONVATTN_ISA::means_half, &CONVATTN_ISA::gating_half, &CONVATTN_ISA::statistics_half,
     &CONVATTN_ISA::gradients_half},
    NAME(CONVATTN_ISA)};
}  // namespace convattn
