# What the build takes from the system (tools/packages.txt) and from PyPI's C++ libraries (tools/requirements.txt, in
# .venv). Every library has one target, so that a folder of src/ only names it:
#
#   Threads::Threads  Boost::headers  nlohmann_json::nlohmann_json  CLI11::CLI11  Eigen3::Eigen
#   deps::jpeg  deps::png  deps::webp  deps::gif  deps::zlib     linked statically into programs
#   simdjson::simdjson  DNNL::dnnl  deps::gomp  prometheus-cpp::core   no static archive: carried beside the binary
#
# Optional ones are only looked for here; the folder that needs one says so.
find_package(Threads REQUIRED)

# Beast's coroutines need 1.81: Debian 12's default, 1.74, miscompiles them.
find_package(Boost 1.81 REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Eigen3 3.3 REQUIRED NO_MODULE)
find_package(simdjson REQUIRED)

# Its own CMake package wants civetweb and curl for parts that are not used here: only the core is looked for.
find_path(TANDEM_PROMETHEUS_INCLUDE prometheus/text_serializer.h REQUIRED)
find_library(TANDEM_PROMETHEUS prometheus-cpp-core REQUIRED)
mark_as_advanced(TANDEM_PROMETHEUS_INCLUDE TANDEM_PROMETHEUS)
file(REAL_PATH ${TANDEM_PROMETHEUS} location)
execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${location} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
if(NOT dynamic MATCHES "SONAME +([^ \n]+)")
  message(FATAL_ERROR "${location} has no name to ask for")
endif()
add_library(prometheus-cpp::core SHARED IMPORTED GLOBAL)
set_target_properties(prometheus-cpp::core PROPERTIES
  IMPORTED_LOCATION ${location} IMPORTED_SONAME ${CMAKE_MATCH_1}
  INTERFACE_INCLUDE_DIRECTORIES ${TANDEM_PROMETHEUS_INCLUDE})

# tandem_codec(name header library…): the first library with what it needs. Programs take the static archives. Debian
# builds these without -fPIC, so a shared library of ours, which says so with the property TANDEM_SHARED_CODECS, takes
# the shared ones; TANDEM_CODEC_LIBRARIES collects those, to be carried with it.
set(TANDEM_CODEC_LIBRARIES)
function(tandem_codec name header)
  find_path(TANDEM_${name}_INCLUDE ${header} REQUIRED)
  mark_as_advanced(TANDEM_${name}_INCLUDE)
  add_library(deps_${name} INTERFACE IMPORTED GLOBAL)
  add_library(deps::${name} ALIAS deps_${name})
  # SYSTEM: warnings in the system's headers are not this project's business.
  target_include_directories(deps_${name} SYSTEM INTERFACE ${TANDEM_${name}_INCLUDE})
  foreach(library IN LISTS ARGN)
    find_library(TANDEM_${library}_ARCHIVE lib${library}.a REQUIRED)
    find_library(TANDEM_${library}_SHARED lib${library}.so REQUIRED)
    mark_as_advanced(TANDEM_${library}_ARCHIVE TANDEM_${library}_SHARED)
    set(shared $<BOOL:$<TARGET_PROPERTY:TANDEM_SHARED_CODECS>>)
    target_link_libraries(deps_${name} INTERFACE
      $<IF:${shared},${TANDEM_${library}_SHARED},${TANDEM_${library}_ARCHIVE}>)
    list(APPEND TANDEM_CODEC_LIBRARIES ${TANDEM_${library}_SHARED})
  endforeach()
  set(TANDEM_CODEC_LIBRARIES ${TANDEM_CODEC_LIBRARIES} PARENT_SCOPE)
endfunction()

tandem_codec(zlib zlib.h z)
tandem_codec(jpeg jpeglib.h jpeg)
tandem_codec(png png.h png)
target_link_libraries(deps_png INTERFACE deps_zlib m)
tandem_codec(webp webp/decode.h webpdemux webp)
target_link_libraries(deps_webp INTERFACE Threads::Threads m)
tandem_codec(gif gif_lib.h gif)

# oneDNN 3: PyPI's package, built against libgomp, or a folder that the caller names with -DDNNL_DIR=….
option(TANDEM_ONEDNN "Multiply with oneDNN on processors with AMX (a library of 50 MB beside the program)" ON)
if(TANDEM_ONEDNN)
  find_package(dnnl 3.2 REQUIRED CONFIG
    HINTS ${PROJECT_SOURCE_DIR}/.venv/lib/cmake/dnnl)
endif()

# The one OpenMP runtime. oneDNN needs this very file, so it is found by its run-time name and not through -fopenmp.
find_library(TANDEM_GOMP libgomp.so.1 REQUIRED)
mark_as_advanced(TANDEM_GOMP)
add_library(deps_gomp SHARED IMPORTED GLOBAL)
set_target_properties(deps_gomp PROPERTIES IMPORTED_LOCATION ${TANDEM_GOMP} IMPORTED_SONAME libgomp.so.1)
add_library(deps::gomp ALIAS deps_gomp)
