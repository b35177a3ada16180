// Attention over packed rows, one head of one sequence at a time.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/team.h"
#include "backend/cpu/workspace.h"

namespace tandem::backend::cpu {

/// Types and shapes were checked.
void attention(const Kernels& kernels, Workspace& workspace, Team& team, const AttentionArgs& args);

}  // namespace tandem::backend::cpu
