// Everything a user of the library needs.
#pragma once

#include "tandem/context.h"
#include "tandem/engine.h"
#include "tandem/error.h"
#include "tandem/observer.h"
#include "tandem/types.h"
#include "tandem/zero_shot.h"
