# tandem::version: what `tandem --version` says. A library of its own, so that a commit relinks the programs that name
# it and not every test.
configure_file(${PROJECT_SOURCE_DIR}/include/tandem/version.h.in ${PROJECT_BINARY_DIR}/include/tandem/version.h @ONLY)

add_custom_target(tandem_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUTPUT=${PROJECT_BINARY_DIR}/generated/tandem_commit.h
    -P ${PROJECT_SOURCE_DIR}/cmake/WriteCommit.cmake
  BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/tandem_commit.h
  COMMENT "")

file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/version.cc NEWLINE_STYLE UNIX CONTENT [=[
#include "tandem/version.h"

#include "tandem_commit.h"

namespace tandem {
std::string_view version() noexcept { return TANDEM_VERSION; }
std::string_view commit() noexcept { return TANDEM_COMMIT; }
}  // namespace tandem
]=])
add_library(tandem_version STATIC ${PROJECT_BINARY_DIR}/generated/version.cc)
add_library(tandem::version ALIAS tandem_version)
add_dependencies(tandem_version tandem_commit)
target_include_directories(tandem_version PUBLIC ${PROJECT_BINARY_DIR}/include PRIVATE ${PROJECT_BINARY_DIR}/generated)
