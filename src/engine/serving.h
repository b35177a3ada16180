// What a compute thread does: batches from the queue through a replica's lanes, and their answers.
#pragma once

#include <functional>
#include <optional>

#include "base/log.h"
#include "engine/replica.h"
#include "engine/scheduler.h"

namespace tandem::engine {

/// Told why a replica is lost, before anybody is answered with that reason; by any of its lanes' threads, maybe twice.
using OnLost = std::function<void(const ItemError&)>;

/// Serves with every lane of the replica, the first on this thread, until the scheduler stops, or until a lane's device
/// fails: then why. What such a lane had begun is answered with the reason; the other lanes finish what they have begun
/// and take no more. observer: told of every batch; may be null.
std::optional<ItemError> serve(Replica& replica, Scheduler& scheduler, const Logger& logger, Observer* observer,
                               const OnLost& on_lost);

}  // namespace tandem::engine
