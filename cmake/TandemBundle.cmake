# Shared libraries without a static archive travel with the program: build/lib while building, lib/tandem once installed.
# tandem_bundle collects copies under the names that the dynamic linker asks for.
set(TANDEM_BUNDLE_DIR ${PROJECT_BINARY_DIR}/lib)
set(TANDEM_BUNDLE_FILES)
set(carried simdjson::simdjson deps::gomp prometheus-cpp::core)
if(TANDEM_ONEDNN)
  list(APPEND carried DNNL::dnnl)
endif()
foreach(library IN LISTS carried)
  get_target_property(aliased ${library} ALIASED_TARGET)
  if(aliased)
    set(library ${aliased})
  endif()
  foreach(suffix "_RELEASE" "_RELWITHDEBINFO" "_NONE" "")
    get_target_property(location ${library} IMPORTED_LOCATION${suffix})
    get_target_property(soname ${library} IMPORTED_SONAME${suffix})
    if(location AND soname)
      break()
    endif()
  endforeach()
  if(NOT location OR NOT soname)
    message(FATAL_ERROR "${library} is not a shared library with a location and a name to ask for")
  endif()
  add_custom_command(OUTPUT ${TANDEM_BUNDLE_DIR}/${soname}
    COMMAND ${CMAKE_COMMAND} -E copy ${location} ${TANDEM_BUNDLE_DIR}/${soname}
    DEPENDS ${location} COMMENT "Carrying ${soname}")
  list(APPEND TANDEM_BUNDLE_FILES ${TANDEM_BUNDLE_DIR}/${soname})
endforeach()
add_custom_target(tandem_bundle DEPENDS ${TANDEM_BUNDLE_FILES})

# The same for the codecs of libtandem.so, apart from the program's, which has its own inside.
set(TANDEM_CODEC_FILES)
foreach(library IN LISTS TANDEM_CODEC_LIBRARIES)
  # libpng.so → libpng16.so.16.39.0, which is asked for as libpng16.so.16.
  file(REAL_PATH ${library} location)
  execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${location} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
  if(NOT dynamic MATCHES "SONAME +([^ \n]+)")
    message(FATAL_ERROR "${library} has no name to ask for")
  endif()
  set(copy ${PROJECT_BINARY_DIR}/codecs/${CMAKE_MATCH_1})
  add_custom_command(OUTPUT ${copy} COMMAND ${CMAKE_COMMAND} -E copy ${location} ${copy} DEPENDS ${location}
    COMMENT "Carrying ${CMAKE_MATCH_1}")
  list(APPEND TANDEM_CODEC_FILES ${copy})
endforeach()
add_custom_target(tandem_codecs DEPENDS ${TANDEM_CODEC_FILES})

# tandem_find_bundle(target paths…): the target looks for its libraries in these folders, relative to itself, and
# nowhere else that a build left behind. The old tag (DT_RPATH) on purpose: it also holds for what the carried libraries
# need themselves (oneDNN's libgomp), and LD_LIBRARY_PATH cannot replace the one OpenMP runtime by another.
function(tandem_find_bundle target)
  list(TRANSFORM ARGN PREPEND "$ORIGIN/")
  set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "${ARGN}")
  target_link_options(${target} PRIVATE -Wl,--disable-new-dtags)
  add_dependencies(${target} tandem_bundle)
endfunction()
