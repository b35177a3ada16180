# Run at every build (cmake -DSOURCE=… -DOUTPUT=… -P): writes the commit into a header, only when it has changed, so
# that a build with nothing to do does nothing.
set(commit unknown)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} --no-optional-locks describe --always --exclude=* --abbrev=12 --dirty=+
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed AND found MATCHES "^[0-9a-f]+\\+?$")
    set(commit ${found})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#define TANDEM_COMMIT \"${commit}\"\n" NEWLINE_STYLE UNIX)
