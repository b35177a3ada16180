# The program and the library as users get them:
#
#   bin/tandem                       the program
#   lib/libtandem.so                 the public C++ API (include/tandem), everything of this project inside
#   lib/tandem/                      the shared libraries that both carry
#   lib/cmake/tandem/                find_package(tandem) → tandem::tandem
#   share/tandem/models/             the default model
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(TARGET tandem)
  set_target_properties(tandem PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  tandem_find_bundle(tandem lib ../${CMAKE_INSTALL_LIBDIR}/tandem)
  tandem_uses_cuda(tandem)
  install(TARGETS tandem RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

if(TARGET tandem_engine)
  # One shared library from the folders that implement include/tandem. Only the API's own names leave it: two programs'
  # worth of Boost in one process must not meet.
  file(WRITE ${PROJECT_BINARY_DIR}/generated/libtandem.map [=[
{
  global:
    extern "C++" { tandem::*; };
    _ZTIN6tandem*; _ZTSN6tandem*; _ZTVN6tandem*;
  local: *;
};
]=])
  # The objects of what implements the API are named, since nothing inside refers to what only a user calls; everything
  # below comes from the archives as needed.
  add_library(libtandem SHARED
    $<TARGET_OBJECTS:tandem_engine> $<TARGET_OBJECTS:tandem_base> $<TARGET_OBJECTS:tandem_version>)
  add_library(tandem::tandem ALIAS libtandem)
  set_target_properties(libtandem PROPERTIES
    OUTPUT_NAME tandem EXPORT_NAME tandem TANDEM_SHARED_CODECS ON
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LIBRARY_OUTPUT_DIRECTORY ${TANDEM_BUNDLE_DIR}
    LINK_DEPENDS ${PROJECT_BINARY_DIR}/generated/libtandem.map)
  target_compile_features(libtandem PUBLIC cxx_std_20)
  target_include_directories(libtandem INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(libtandem PRIVATE tandem_engine)
  target_link_options(libtandem PRIVATE -Wl,--version-script=${PROJECT_BINARY_DIR}/generated/libtandem.map)
  if(NOT TANDEM_SANITIZE)
    target_link_options(libtandem PRIVATE -Wl,--no-undefined)
  endif()
  tandem_find_bundle(libtandem . tandem)
  add_dependencies(libtandem tandem_codecs)

  install(TARGETS libtandem EXPORT tandem LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT tandem NAMESPACE tandem:: FILE tandem-targets.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
  file(WRITE ${PROJECT_BINARY_DIR}/generated/tandem-config.cmake
    "include(\${CMAKE_CURRENT_LIST_DIR}/tandem-targets.cmake)\n")
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/tandem-config-version.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/generated/tandem-config.cmake
    ${PROJECT_BINARY_DIR}/generated/tandem-config-version.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
endif()

install(FILES ${TANDEM_BUNDLE_FILES} ${TANDEM_CODEC_FILES} DESTINATION ${CMAKE_INSTALL_LIBDIR}/tandem)
install(DIRECTORY include/tandem DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_BINARY_DIR}/include/tandem/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tandem)
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/models)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
