# tandem_layer(name SOURCES a.cc … DEPENDS tandem::base …)
# One static library per folder of src/. A dependency that does not exist yet is above this one: configuration stops,
# so the order of add_subdirectory() is the layering.
function(tandem_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 a "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS")
  add_library(tandem_${name} STATIC ${a_SOURCES})
  add_library(tandem::${name} ALIAS tandem_${name})
  foreach(dep IN LISTS a_DEPENDS a_PRIVATE_DEPENDS)
    if(dep MATCHES "^tandem::" AND NOT TARGET ${dep})
      message(FATAL_ERROR "${name} names ${dep}, which is not below it")
    endif()
  endforeach()
  target_include_directories(tandem_${name} PUBLIC
    ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(tandem_${name} PUBLIC ${a_DEPENDS} PRIVATE ${a_PRIVATE_DEPENDS} tandem_warnings)
endfunction()

# tandem_test(name SOURCES a_test.cc … DEPENDS tandem::text …): a GoogleTest binary whose cases ctest lists one by one.
function(tandem_test name)
  cmake_parse_arguments(PARSE_ARGV 1 a "" "LABELS" "SOURCES;DEPENDS")
  if(NOT TANDEM_BUILD_TESTS)
    return()
  endif()
  add_executable(${name} ${a_SOURCES})
  target_link_libraries(${name} PRIVATE ${a_DEPENDS} GTest::gtest_main tandem_warnings)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE TANDEM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(TANDEM_SANITIZE STREQUAL thread)  # tests that only need some device take the one without OpenMP
    target_compile_definitions(${name} PRIVATE TANDEM_TEST_DEVICE="reference")
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 LABELS "${a_LABELS}")
endfunction()

# tandem_fuzzer(name SOURCES f.cc DEPENDS …): a libFuzzer binary in fuzz/, only in the fuzz preset (clang). `make fuzz`
# runs it on the seeds in tests/fuzz/seeds/<name>.
function(tandem_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 a "" "" "SOURCES;DEPENDS")
  if(NOT TANDEM_FUZZ)
    return()
  endif()
  add_executable(${name} ${a_SOURCES})
  target_link_libraries(${name} PRIVATE ${a_DEPENDS} tandem_warnings)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  add_dependencies(fuzzers ${name})
endfunction()
